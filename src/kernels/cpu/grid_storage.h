#pragma once

#include <algorithm>
#include <cmath>
#include <limits>

#include "calque/core/dtype.h"
#include "calque/kernels/scale_search.h"

namespace calque::cpu {

// Smallest magnitude of a stored scale. binary16: its smallest normal number, because runtimes may
// flush denormal ones. Otherwise small enough for any weight, and its products stay normal.
inline float smallest_scale(ScalePrecision precision) {
  return precision == ScalePrecision::kF16 ? 0x1p-14f : 0x1p-100f;
}

inline float largest_value(ScalePrecision precision) {
  if (precision == ScalePrecision::kF16) return 65504.0f;
  if (precision == ScalePrecision::kBF16) return 0x1.fep127f;
  return std::numeric_limits<float>::max();
}

// `value` as stored: saturated and rounded.
inline float stored(float value, ScalePrecision precision) {
  const float largest = largest_value(precision);
  const float bounded = std::clamp(value, -largest, largest);
  if (precision == ScalePrecision::kF16) return rounded_to_half(bounded);
  if (precision == ScalePrecision::kBF16) return rounded_to_bfloat16(bounded);
  return bounded;
}

// Keeps the sign and stays away from zero and from denormal numbers.
inline float stored_scale(float scale, ScalePrecision precision) {
  const float magnitude = std::max(std::abs(scale), smallest_scale(precision));
  return stored(std::copysign(magnitude, scale), precision);
}

}  // namespace calque::cpu
