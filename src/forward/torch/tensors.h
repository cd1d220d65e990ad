#pragma once

#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/from_blob.h>

#include <memory>

#include "calque/core/dtype.h"
#include "calque/core/matrix.h"

// Between calque's matrices and ATen's tensors. T is float or calque::BFloat16, which has the bits
// of c10::BFloat16.
namespace calque::forward {

template <typename T>
inline constexpr at::ScalarType kScalarType = at::kFloat;
template <>
inline constexpr at::ScalarType kScalarType<BFloat16> = at::kBFloat16;

template <typename T>
at::Tensor new_tensor(Index rows, Index cols) {
  if (rows == 0 || cols == 0) return at::empty({rows, cols}, kScalarType<T>);
  // LibTorch's own allocator would take small pages (core/memory.h).
  const auto memory = std::make_shared<Matrix<T>>(Matrix<T>::uninitialized(rows, cols));
  return at::from_blob(
      memory->data(), {rows, cols}, [memory](void*) {}, kScalarType<T>);
}

template <typename T>
MatrixView<T> view_of(const at::Tensor& tensor) {
  return {static_cast<T*>(tensor.data_ptr()), tensor.size(0), tensor.size(1)};
}

// Borrows. ATen has no const tensors; the operators that calque calls do not write their inputs.
template <typename T>
at::Tensor borrow(MatrixView<const T> matrix) {
  return at::from_blob(const_cast<T*>(matrix.data()), {matrix.rows(), matrix.cols()},
                       {matrix.stride(), 1}, kScalarType<T>);
}
template <typename T>
at::Tensor borrow(MatrixView<T> matrix) {
  return borrow(MatrixView<const T>(matrix));
}

}  // namespace calque::forward
