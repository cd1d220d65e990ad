#pragma once

#include <cuda_fp16.h>

#include "calque/core/dtype.h"
#include "kernels/cuda/port.h"

// Elements of matrices as kernels read them.

namespace calque::cuda {

// Exact.
__device__ inline float widened(float value) { return value; }
__device__ inline float widened(BFloat16 value) {
  return __uint_as_float(static_cast<unsigned>(value.bits) << 16);
}
__device__ inline float widened(Half value) {
  __half_raw raw;
  raw.x = value.bits;
  return __half2float(raw);
}

__device__ inline bool is_finite(float value) {
  return (__float_as_uint(value) & 0x7f800000u) != 0x7f800000u;
}
__device__ inline bool is_finite(BFloat16 value) { return (value.bits & 0x7f80u) != 0x7f80u; }
__device__ inline bool is_finite(Half value) { return (value.bits & 0x7c00u) != 0x7c00u; }

template <typename T>
constexpr DType dtype_of();
template <>
constexpr DType dtype_of<float>() {
  return DType::kF32;
}
template <>
constexpr DType dtype_of<BFloat16>() {
  return DType::kBF16;
}
template <>
constexpr DType dtype_of<Half>() {
  return DType::kF16;
}

}  // namespace calque::cuda
