#include "model/torch/gemm.h"

#include <fmt/format.h>
#include <oneapi/dnnl/dnnl.h>

#include <map>
#include <oneapi/dnnl/dnnl.hpp>
#include <string>
#include <tuple>

#include "calque/core/error.h"

namespace calque::model {
namespace {

void check(dnnl_status_t status) {
  if (status == dnnl_success) return;
  const std::string reason =
      fmt::format("matrix product failed (oneDNN status {})", static_cast<int>(status));
  if (status == dnnl_out_of_memory)
    throw Error(ErrorKind::kResource, "E304", "out of memory: " + reason);
  throw Error(ErrorKind::kInternal, "", reason);
}

struct Shape {
  Index rows, inner, cols;
  Index left_stride, right_stride, result_stride;
  bool transposed;  // the right one is stored as [cols, inner]
  auto operator<=>(const Shape&) const = default;
};

// A product of bf16 matrices of one shape, ready to run: making it costs as much as a small product
// takes.
class BFloat16Product {
 public:
  explicit BFloat16Product(const Shape& shape)
      : engine_(dnnl::engine::kind::cpu, 0),
        stream_(engine_),
        left_(operand(shape.rows, shape.inner, shape.left_stride, 1)),
        right_(shape.transposed ? operand(shape.inner, shape.cols, 1, shape.right_stride)
                                : operand(shape.inner, shape.cols, shape.right_stride, 1)),
        result_({{shape.rows, shape.cols},
                 dnnl::memory::data_type::f32,
                 dnnl::memory::dims{shape.result_stride, 1}},
                engine_, nullptr),
        matmul_({{left_.get_desc(), right_.get_desc(), result_.get_desc()}, engine_}) {}

  void run(const BFloat16* left, const BFloat16* right, float* result) {
    left_.set_data_handle(const_cast<BFloat16*>(left));  // oneDNN's handles are mutable; it reads
    right_.set_data_handle(const_cast<BFloat16*>(right));
    result_.set_data_handle(result);
    matmul_.execute(stream_,
                    {{DNNL_ARG_SRC, left_}, {DNNL_ARG_WEIGHTS, right_}, {DNNL_ARG_DST, result_}});
    stream_.wait();
  }

 private:
  dnnl::memory operand(Index rows, Index cols, Index row_stride, Index col_stride) const {
    return {
        {{rows, cols}, dnnl::memory::data_type::bf16, dnnl::memory::dims{row_stride, col_stride}},
        engine_,
        nullptr};
  }

  dnnl::engine engine_;
  dnnl::stream stream_;
  dnnl::memory left_, right_, result_;
  dnnl::matmul matmul_;
};

void multiply_bf16(const Shape& shape, const BFloat16* left, const BFloat16* right, float* result) {
  if (shape.rows == 0 || shape.cols == 0) return;
  thread_local std::map<Shape, BFloat16Product> products;
  try {
    const auto found = products.find(shape);
    BFloat16Product& product =
        found != products.end() ? found->second : products.try_emplace(shape, shape).first->second;
    product.run(left, right, result);
  } catch (const dnnl::error& error) {
    check(error.status);
  }
}

}  // namespace

void multiply_transposed(MatrixView<const float> a_MK, MatrixView<const float> b_NK,
                         MatrixView<float> c_MN, bool add) {
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

void multiply_transposed(MatrixView<const BFloat16> a_MK, MatrixView<const BFloat16> b_NK,
                         MatrixView<float> c_MN) {
  multiply_bf16({a_MK.rows(), a_MK.cols(), b_NK.rows(), a_MK.stride(), b_NK.stride(), c_MN.stride(),
                 /*transposed=*/true},
                a_MK.data(), b_NK.data(), c_MN.data());
}

void multiply(MatrixView<const BFloat16> a_MK, MatrixView<const BFloat16> b_KN,
              MatrixView<float> c_MN) {
  multiply_bf16({a_MK.rows(), a_MK.cols(), b_KN.cols(), a_MK.stride(), b_KN.stride(), c_MN.stride(),
                 /*transposed=*/false},
                a_MK.data(), b_KN.data(), c_MN.data());
}

}  // namespace calque::model
