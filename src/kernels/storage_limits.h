#pragma once

#include <limits>

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

}  // namespace calque
