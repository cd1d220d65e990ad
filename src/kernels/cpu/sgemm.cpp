#include "kernels/cpu/sgemm.h"

#include <oneapi/dnnl/dnnl.h>

#include <string>

#include "calque/core/error.h"

namespace calque::cpu {
namespace {

void multiply(char transpose_a, Index inner, float alpha, MatrixView<const float> a,
              MatrixView<const float> b, float beta, MatrixView<float> c) {
  if (c.empty()) return;
  const dnnl_status_t status =
      dnnl_sgemm(transpose_a, 'N', c.rows(), c.cols(), inner, alpha, a.data(), a.stride(), b.data(),
                 b.stride(), beta, c.data(), c.stride());
  if (status != dnnl_success)
    throw Error(ErrorKind::kInternal, "",
                "dnnl_sgemm failed with status " + std::to_string(status));
}

}  // namespace

void sgemm(float alpha, MatrixView<const float> a, MatrixView<const float> b, float beta,
           MatrixView<float> c) {
  multiply('N', a.cols(), alpha, a, b, beta, c);
}

void sgemm_transposed(float alpha, MatrixView<const float> a, MatrixView<const float> b, float beta,
                      MatrixView<float> c) {
  multiply('T', a.rows(), alpha, a, b, beta, c);
}

}  // namespace calque::cpu
