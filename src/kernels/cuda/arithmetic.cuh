#pragma once

#include <cstdint>

#include "kernels/cuda/port.h"
#include "kernels/grid_storage.h"

// One operation, one rounding: nvcc may fuse a * b + c into one instruction with one rounding, the
// CPU's code does not. Kernels that must give the CPU's bits spell their sums with these.

namespace calque::cuda {

#if defined(__CUDACC__)

__device__ inline float add(float a, float b) { return __fadd_rn(a, b); }
__device__ inline float sub(float a, float b) { return __fsub_rn(a, b); }
__device__ inline float mul(float a, float b) { return __fmul_rn(a, b); }
__device__ inline float div(float a, float b) { return __fdiv_rn(a, b); }
__device__ inline double add(double a, double b) { return __dadd_rn(a, b); }
__device__ inline double sub(double a, double b) { return __dsub_rn(a, b); }
__device__ inline double mul(double a, double b) { return __dmul_rn(a, b); }
__device__ inline double div(double a, double b) { return __ddiv_rn(a, b); }

#else  // compiled with -ffp-contract=off

inline float add(float a, float b) { return a + b; }
inline float sub(float a, float b) { return a - b; }
inline float mul(float a, float b) { return a * b; }
inline float div(float a, float b) { return a / b; }
inline double add(double a, double b) { return a + b; }
inline double sub(double a, double b) { return a - b; }
inline double mul(double a, double b) { return a * b; }
inline double div(double a, double b) { return a / b; }

#endif

// ---- Grids

// As in kernels/cpu: the nearest integer in [lowest, highest], both integers themselves; ties to
// even; NaN gives `lowest`.
__device__ inline float nearest_code(float v, float lowest, float highest) {
  const float above = v > lowest ? v : lowest;
  return rintf(above < highest ? above : highest);
}

// The place of `weight` on a grid, in codes. A zero scale divides as infinity.
__device__ inline float position_on_grid(float weight, float scale, float offset) {
  const float divisor = scale == 0.0f ? __uint_as_float(0x7f800000u) : scale;
  return div(sub(weight, offset), divisor);
}

__device__ inline float value_on_grid(float level, float scale, float offset) {
  return add(mul(scale, level), offset);
}

// ---- What a scale or an offset is once it is stored, as grid_storage.h on the host

struct Storage {
  ScalePrecision precision;
  float smallest_scale, largest_value;
};

inline Storage storage_of(ScalePrecision precision) {
  return {precision, smallest_scale(precision), largest_value(precision)};
}

// `value` without its lowest `bits` bits; to nearest, ties to even.
__device__ inline float without_low_bits(float value, int bits) {
  const std::uint32_t pattern = __float_as_uint(value);
  const std::uint32_t half_less_one = (1u << (bits - 1)) - 1;
  const std::uint32_t odd = pattern >> bits & 1;
  return __uint_as_float((pattern + half_less_one + odd) >> bits << bits);
}

__device__ inline float rounded_to_bfloat16(float value) { return without_low_bits(value, 16); }

// For magnitudes up to 65504.
__device__ inline float rounded_to_half(float value) {
  if (fabsf(value) >= 0x1p-14f) return without_low_bits(value, 13);
  // Denormal: a multiple of 2^-24, which is what floats near 0.75 are.
  return copysignf(sub(add(value, 0.75f), 0.75f), value);
}

// The nearest bfloat16 number that is zero or normal in binary16, for magnitudes up to 65280.
__device__ inline float rounded_to_both(float value) {
  constexpr float kSmallest = 0x1p-14f;
  if (fabsf(value) >= kSmallest) return rounded_to_bfloat16(value);
  return copysignf(fabsf(value) > 0.5f * kSmallest ? kSmallest : 0.0f, value);
}

__device__ inline float stored(float value, const Storage& storage) {
  const float largest = storage.largest_value;
  const float bounded = value < -largest ? -largest : largest < value ? largest : value;
  switch (storage.precision) {
    case ScalePrecision::kF16:
      return rounded_to_half(bounded);
    case ScalePrecision::kBF16:
      return rounded_to_bfloat16(bounded);
    case ScalePrecision::kF16AndBF16:
      return rounded_to_both(bounded);
    case ScalePrecision::kF32:
    case ScalePrecision::kE4M3:  // grids of floating-point numbers are rounded on CPUs
    case ScalePrecision::kE8M0:
      break;
  }
  return bounded;
}

__device__ inline float stored_scale(float scale, const Storage& storage) {
  const float magnitude = fabsf(scale);
  return stored(
      copysignf(magnitude < storage.smallest_scale ? storage.smallest_scale : magnitude, scale),
      storage);
}

}  // namespace calque::cuda
