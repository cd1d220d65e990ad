#pragma once

#include <cuda_runtime_api.h>

#include <memory>
#include <type_traits>

#include "calque/core/dtype.h"
#include "calque/core/matrix.h"

namespace calque::cuda {

// A row-major matrix in device memory, borrowed. T may be const.
template <typename T>
struct DeviceView {
  T* data = nullptr;
  Index rows = 0;
  Index cols = 0;
  Index stride = 0;  // in elements

  operator DeviceView<const T>() const requires(!std::is_const_v<T>) {
    return {data, rows, cols, stride};
  }
};

// Dense linear algebra on a device: the only door to cuBLAS and cuSOLVER (libraries_nvidia.cpp).
// The tests link plain loops behind the same functions, so that which product an operation asks for
// is tested without a GPU. Everything is queued on one stream.
class Libraries {
 public:
  explicit Libraries(cudaStream_t stream);
  ~Libraries();

  // c_MN = alpha * a_MK * b_KN + beta * c_MN; fp32 throughout (no TF32).
  void multiply(float alpha, DeviceView<const float> a_MK, DeviceView<const float> b_KN, float beta,
                DeviceView<float> c_MN);
  // c_MN += a_TM^T * b_TN with fp32 sums; `dtype` of both operands: kF32, kBF16 or kF16. fp32
  // operands are not rounded (no TF32).
  void add_transposed_product(DType dtype, DeviceView<const void> a_TM, DeviceView<const void> b_TN,
                              DeviceView<float> c_MN);
  // a_KK = L L^T, L lower triangular, in place (the upper triangle is left as it is). False if a
  // pivot is not positive. Waits for the result.
  bool factor_lower(DeviceView<float> a_KK);
  // L^-1 in place of the lower triangular L (the upper triangle is left as it is).
  void invert_lower(DeviceView<float> l_KK);

 private:
  struct Handles;
  std::unique_ptr<Handles> handles_;
};

}  // namespace calque::cuda
