#include "kernels/cpu/group_range.h"

#include <algorithm>
#include <cmath>

#include "kernels/cpu/grid_storage.h"
#include "kernels/cpu/simd.h"

namespace calque::cpu {

GroupRange range_of(const float* weights, Index size) {
  Floats low = broadcast(weights[0]);
  Floats high = low;
  Index k = 0;
  for (; k + kLanes <= size; k += kLanes) {
    low = at_most(load(weights + k), low);
    high = at_least(load(weights + k), high);
  }
  float lowest = weights[0], highest = weights[0];
  for (int lane = 0; lane < kLanes; ++lane) {
    lowest = std::min(lowest, low[lane]);
    highest = std::max(highest, high[lane]);
  }
  for (; k < size; ++k) {
    lowest = std::min(lowest, weights[k]);
    highest = std::max(highest, weights[k]);
  }
  if (highest != -lowest) return {lowest, highest, highest > -lowest ? highest : lowest};
  return {lowest, highest,
          *std::find_if(weights, weights + size, [&](float w) { return std::abs(w) == highest; })};
}

int bounded_zero(float zero, const ScaleSearchOptions& options) {
  const float lowest = static_cast<float>(options.min_zero);
  const float highest = static_cast<float>((1 << options.bits) - 1);
  return static_cast<int>(std::rint(std::clamp(zero, lowest, highest)));
}

GroupGrid grid_through_zero(float scale, int zero, const ScaleSearchOptions& options) {
  const float rounded = stored_scale(scale, options.precision);
  return {rounded, -rounded * static_cast<float>(zero)};
}

GroupGrid covering_grid(const GroupRange& range, ScaleRule rule,
                        const ScaleSearchOptions& options) {
  const int middle = 1 << (options.bits - 1);
  const float codes = static_cast<float>((1 << options.bits) - 1);
  const float low = std::min(range.lowest, 0.0f);
  const float high = std::max(range.highest, 0.0f);
  const float range_scale = high / codes - low / codes;  // cannot overflow
  switch (options.offset_kind) {
    case OffsetKind::kMiddleCode:
      if (rule == ScaleRule::kMinMax)
        return grid_through_zero(2.0f * (std::abs(range.extreme) / codes), middle, options);
      return grid_through_zero(-range.extreme / static_cast<float>(middle), middle, options);
    case OffsetKind::kZeroPoint: {
      const float scale = stored_scale(range_scale, options.precision);
      return grid_through_zero(scale, bounded_zero(-low / scale, options), options);
    }
    case OffsetKind::kMinimum:
      break;
  }
  return {stored_scale(range_scale, options.precision), stored(low, options.precision)};
}

}  // namespace calque::cpu
