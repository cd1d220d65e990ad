#include "model/torch/gemm.h"

#include <fmt/format.h>
#include <oneapi/dnnl/dnnl.h>

#include "calque/core/error.h"

namespace calque::model {
namespace {

void check(dnnl_status_t status) {
  if (status == dnnl_success) return;
  const bool memory = status == dnnl_out_of_memory;
  throw Error(memory ? ErrorKind::kResource : ErrorKind::kInternal, "",
              fmt::format("matrix product failed (oneDNN status {})", static_cast<int>(status)));
}

}  // namespace

void multiply_transposed(MatrixView<const float> a_MK, MatrixView<const float> b_NK, bool add,
                         MatrixView<float> c_MN) {
  if (c_MN.empty()) return;  // oneDNN refuses products without rows
  check(dnnl_sgemm('N', 'T', c_MN.rows(), c_MN.cols(), a_MK.cols(), 1.0f, a_MK.data(),
                   a_MK.stride(), b_NK.data(), b_NK.stride(), add ? 1.0f : 0.0f, c_MN.data(),
                   c_MN.stride()));
}

void multiply(MatrixView<const float> a_MK, MatrixView<const float> b_KN, MatrixView<float> c_MN) {
  if (c_MN.empty()) return;
  check(dnnl_sgemm('N', 'N', c_MN.rows(), c_MN.cols(), a_MK.cols(), 1.0f, a_MK.data(),
                   a_MK.stride(), b_KN.data(), b_KN.stride(), 0.0f, c_MN.data(), c_MN.stride()));
}

}  // namespace calque::model
