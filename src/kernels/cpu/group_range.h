#pragma once

#include "calque/core/matrix.h"
#include "calque/kernels/scale_search.h"

namespace calque::cpu {

struct GroupGrid {
  float scale = 0;
  float offset = 0;
};

// The ends of a group's weights.
struct GroupRange {
  float lowest = 0, highest = 0;
  float extreme = 0;  // the first entry of largest magnitude

  GroupRange times(float factor) const {
    return {factor * lowest, factor * highest, factor * extreme};
  }
};

GroupRange range_of(const float* weights, Index size);

// `zero` rounded to a zero point that `options` allow.
int bounded_zero(float zero, const ScaleSearchOptions& options);

// The grid through zero with `scale` rounded to the precision.
GroupGrid grid_through_zero(float scale, int zero, const ScaleSearchOptions& options);

// The grid that covers `range`: kMinMax or (any other rule) kFullRange.
GroupGrid covering_grid(const GroupRange& range, ScaleRule rule, const ScaleSearchOptions& options);

}  // namespace calque::cpu
