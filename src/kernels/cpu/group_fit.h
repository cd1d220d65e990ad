#pragma once

#include <vector>

#include "calque/core/matrix.h"
#include "calque/kernels/scale_search.h"
#include "kernels/cpu/lanes.h"

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

// Chooses the grids of one group after another; one object a thread.
class GroupFitter {
 public:
  GroupFitter(const ScaleSearchOptions& options, Index group_size);

  // `importance` may be null: all ones.
  GroupGrid fit(const float* weights, const float* importance);

 private:
  // The worth of a candidate's codes q. For a grid through zero (scale * q): the best scale for
  // these codes is slope = sum h q x / sum h q^2, which lowers sum h x^2 by gain. For a grid with a
  // minimum the sums are centred and offset is the best offset.
  struct Candidate {
    float slope = 0;
    float offset = 0;
    float gain = -1;
    int zero = 0;
  };
  // A grid to find codes with: scale * (code - zero), or scale * code + offset.
  struct Trial {
    float scale = 0;  // through zero: its inverse
    float offset = 0;
    int zero = 0;
  };
  // The sums that a trial's codes are judged by.
  struct ZeroSums {
    Floats qx{}, qq{};
  };
  struct MinimumSums {
    Floats one{}, c{}, cc{}, x{}, cx{};
  };

  void load(const float* weights, const float* importance);
  GroupGrid searched_grid();
  GroupGrid searched_symmetric();
  GroupGrid searched_zero_point();
  GroupGrid searched_minimum();

  // The best of `best` and all trials_, which are used up; of equals the first.
  Candidate best_through_zero(Candidate best);
  Candidate best_with_minimum(Candidate best);

  ZeroSums sums_through_zero(const Trial& trial) const;
  MinimumSums sums_with_minimum(const Trial& trial) const;
  static Candidate fitted_line(const Trial& trial, double total, double c, double cc, double x,
                               double cx);
  float error(const GroupGrid& grid) const;

  ScaleSearchOptions options_;
  Index size_;  // the group's
  int max_code_;
  int middle_;
  // The group, padded to whole vectors with its first weight at importance 0.
  std::vector<float> x_, h_;
  GroupRange range_;
  std::vector<Trial> trials_;
};

}  // namespace calque::cpu
