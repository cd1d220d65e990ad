#pragma once

#include "kernels/cuda/arithmetic.cuh"

namespace calque::cuda {

// As in cpu/simd.h: the nearest integer in [lowest, highest], both integers themselves; ties to
// even; NaN gives `lowest`.
__device__ inline float nearest_code(float v, float lowest, float highest) {
  const float above = v > lowest ? v : lowest;
  return rintf(above < highest ? above : highest);
}

// Where `weight` lies on a grid, in codes. A zero scale divides as infinity.
__device__ inline float position_on_grid(float weight, float scale, float offset) {
  const float divisor = scale == 0.0f ? __uint_as_float(0x7f800000u) : scale;
  return div(sub(weight, offset), divisor);
}

__device__ inline float value_on_grid(float level, float scale, float offset) {
  return add(mul(scale, level), offset);
}

}  // namespace calque::cuda
