#pragma once

#include <algorithm>
#include <cmath>
#include <limits>

#include "calque/core/dtype.h"
#include "calque/kernels/scale_search.h"

namespace calque {

// Smallest magnitude of a stored scale. binary16: its smallest normal number, because runtimes may
// flush denormal ones. Otherwise small enough for any weight, and its products stay normal.
inline float smallest_scale(ScalePrecision precision) {
  switch (precision) {
    case ScalePrecision::kF16:
    case ScalePrecision::kF16AndBF16:
      return 0x1p-14f;
    case ScalePrecision::kF32:
    case ScalePrecision::kBF16:
      break;
  }
  return 0x1p-100f;
}

inline float largest_value(ScalePrecision precision) {
  switch (precision) {
    case ScalePrecision::kF16:
      return 65504.0f;
    case ScalePrecision::kF16AndBF16:
      return 65280.0f;  // 255 * 2^8, the largest bfloat16 number below 65504
    case ScalePrecision::kBF16:
      return 0x1.fep127f;
    case ScalePrecision::kF32:
      break;
  }
  return std::numeric_limits<float>::max();
}

// The nearest bfloat16 number that is zero or normal in binary16, for magnitudes up to 65280.
inline float rounded_to_both(float value) {
  constexpr float kSmallest = 0x1p-14f;
  if (std::abs(value) >= kSmallest) return rounded_to_bfloat16(value);
  return std::copysign(std::abs(value) > 0.5f * kSmallest ? kSmallest : 0.0f, value);
}

// `value` as stored: saturated and rounded.
inline float stored(float value, ScalePrecision precision) {
  const float largest = largest_value(precision);
  const float bounded = std::clamp(value, -largest, largest);
  switch (precision) {
    case ScalePrecision::kF16:
      return rounded_to_half(bounded);
    case ScalePrecision::kBF16:
      return rounded_to_bfloat16(bounded);
    case ScalePrecision::kF16AndBF16:
      return rounded_to_both(bounded);
    case ScalePrecision::kF32:
      break;
  }
  return bounded;
}

// Keeps the sign and stays away from zero and from denormal numbers.
inline float stored_scale(float scale, ScalePrecision precision) {
  const float magnitude = std::max(std::abs(scale), smallest_scale(precision));
  return stored(std::copysign(magnitude, scale), precision);
}

}  // namespace calque
