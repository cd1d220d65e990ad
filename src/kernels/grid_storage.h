#pragma once

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>

#include "calque/core/dtype.h"
#include "calque/core/small_float.h"
#include "calque/kernels/scale_search.h"

namespace calque {

// Smallest magnitude of a stored scale. binary16: its smallest normal number, because runtimes may
// flush denormal ones. Otherwise small enough for any weight, and its products stay normal.
inline float smallest_scale(ScalePrecision precision) {
  switch (precision) {
    case ScalePrecision::kF16:
    case ScalePrecision::kF16AndBF16:
      return 0x1p-14f;
    case ScalePrecision::kE8M0:
      return 0x1p-127f;
    case ScalePrecision::kF32:
    case ScalePrecision::kBF16:
    case ScalePrecision::kE4M3:
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
    case ScalePrecision::kE8M0:
      return 0x1p127f;
    case ScalePrecision::kF32:
    case ScalePrecision::kE4M3:  // the divisor brings any scale into reach
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

// The nearest power of two, 2^-127 to 2^127, of a positive number: in the middle the larger one.
inline float nearest_power_of_two(float value) {
  constexpr std::uint32_t kExponent = 0x7f800000u;
  constexpr std::uint32_t kHalf = 0x00400000u;  // carries from a mantissa of 1.5 on
  if (value < 0x1.8p-127f) return 0x1p-127f;
  const std::uint32_t bits = std::bit_cast<std::uint32_t>(std::fmin(value, 0x1p127f));
  return std::bit_cast<float>((bits + kHalf) & kExponent);
}

// `value` as stored: saturated and rounded.
inline float stored(float value, ScalePrecision precision, float divisor = 1) {
  const float largest = largest_value(precision);
  const float bounded = std::clamp(value, -largest, largest);
  switch (precision) {
    case ScalePrecision::kF16:
      return rounded_to_half(bounded);
    case ScalePrecision::kBF16:
      return rounded_to_bfloat16(bounded);
    case ScalePrecision::kF16AndBF16:
      return rounded_to_both(bounded);
    case ScalePrecision::kE4M3:
      return fp8_scale(value, divisor);
    case ScalePrecision::kE8M0:
      return nearest_power_of_two(bounded);
    case ScalePrecision::kF32:
      break;
  }
  return bounded;
}

// Keeps the sign and stays away from zero and from denormal numbers.
inline float stored_scale(float scale, ScalePrecision precision, float divisor = 1) {
  const float magnitude = std::max(std::abs(scale), smallest_scale(precision));
  return stored(std::copysign(magnitude, scale), precision, divisor);
}

}  // namespace calque
