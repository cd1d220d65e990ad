#include "forward/cpu/gemm.h"

#include <fmt/format.h>
#include <oneapi/dnnl/dnnl.h>

#include <map>
#include <oneapi/dnnl/dnnl.hpp>
#include <string>
#include <tuple>

#include "calque/core/error.h"
#include "forward/cpu/kept_products.h"

namespace calque::forward {
namespace {

void check(dnnl_status_t status) {
  if (status != dnnl_success) throw_product_error(status);
}

struct Shape {
  Index rows, inner, cols;
  Index left_stride, right_stride, result_stride;
  bool transposed;  // the right one is stored as [cols, inner]
  auto operator<=>(const Shape&) const = default;
};

template <typename T>
constexpr auto kStoredAs = dnnl::memory::data_type::f32;
template <>
constexpr auto kStoredAs<BFloat16> = dnnl::memory::data_type::bf16;

// A product of matrices of one shape.
template <typename T>
class Product {
 public:
  explicit Product(const Shape& shape)
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

  void run(const T* left, const T* right, float* result) {
    left_.set_data_handle(const_cast<T*>(left));  // oneDNN's handles are mutable; it reads
    right_.set_data_handle(const_cast<T*>(right));
    result_.set_data_handle(result);
    matmul_.execute(stream_,
                    {{DNNL_ARG_SRC, left_}, {DNNL_ARG_WEIGHTS, right_}, {DNNL_ARG_DST, result_}});
    stream_.wait();
  }

 private:
  dnnl::memory operand(Index rows, Index cols, Index row_stride, Index col_stride) const {
    return {
        {{rows, cols}, kStoredAs<T>, dnnl::memory::dims{row_stride, col_stride}}, engine_, nullptr};
  }

  dnnl::engine engine_;
  dnnl::stream stream_;
  dnnl::memory left_, right_, result_;
  dnnl::matmul matmul_;
};

template <typename T>
void run_product(const Shape& shape, const T* left, const T* right, float* result) {
  if (shape.rows == 0 || shape.cols == 0) return;
  try {
    kept_product<Product<T>>(shape).run(left, right, result);
  } catch (const dnnl::error& error) {
    throw_product_error(error.status);
  }
}

}  // namespace

void throw_product_error(int dnnl_status) {
  const std::string reason = fmt::format("matrix product failed (oneDNN status {})", dnnl_status);
  if (dnnl_status == dnnl_out_of_memory)
    throw Error(ErrorKind::kResource, "E304", "out of memory: " + reason);
  throw Error(ErrorKind::kInternal, "", reason);
}

void multiply_transposed(MatrixView<const float> a_MK, MatrixView<const float> b_NK,
                         MatrixView<float> c_MN, bool add) {
  if (c_MN.empty()) return;  // oneDNN refuses products without rows
  check(dnnl_sgemm('N', 'T', c_MN.rows(), c_MN.cols(), a_MK.cols(), 1.0f, a_MK.data(),
                   a_MK.stride(), b_NK.data(), b_NK.stride(), add ? 1.0f : 0.0f, c_MN.data(),
                   c_MN.stride()));
}

void multiply_transposed(MatrixView<const BFloat16> a_MK, MatrixView<const BFloat16> b_NK,
                         MatrixView<float> c_MN) {
  run_product<BFloat16>(
      {a_MK.rows(), a_MK.cols(), b_NK.rows(), a_MK.stride(), b_NK.stride(), c_MN.stride(),
       /*transposed=*/true},
      a_MK.data(), b_NK.data(), c_MN.data());
}

template <typename T>
void multiply(MatrixView<const T> a_MK, MatrixView<const T> b_KN, MatrixView<float> c_MN) {
  run_product<T>({a_MK.rows(), a_MK.cols(), b_KN.cols(), a_MK.stride(), b_KN.stride(),
                  c_MN.stride(), /*transposed=*/false},
                 a_MK.data(), b_KN.data(), c_MN.data());
}
template void multiply(MatrixView<const float>, MatrixView<const float>, MatrixView<float>);
template void multiply(MatrixView<const BFloat16>, MatrixView<const BFloat16>, MatrixView<float>);

}  // namespace calque::forward
