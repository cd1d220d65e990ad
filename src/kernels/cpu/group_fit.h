#pragma once

#include <vector>

#include "calque/core/matrix.h"
#include "calque/kernels/scale_search.h"
#include "kernels/cpu/group_range.h"

namespace calque::cpu {

// Chooses the grids of one group after another; one object a thread.
class GroupFitter {
 public:
  GroupFitter(const ScaleSearchOptions& options, Index group_size);

  // `importance` may be null: all ones.
  GroupGrid fit(const float* weights, const float* importance);

 private:
  // What a candidate's codes q are worth. For a grid through zero (scale * q): the best scale for
  // these codes is slope = sum h q x / sum h q^2, which lowers sum h x^2 by gain. For a grid with a
  // minimum the sums are centred and offset is the best offset.
  struct Candidate {
    float slope = 0;
    float offset = 0;
    float gain = -1;
  };

  void load(const float* weights, const float* importance);
  GroupGrid searched_grid() const;
  GroupGrid searched_symmetric() const;
  GroupGrid searched_zero_point() const;
  GroupGrid searched_minimum() const;

  Candidate through_zero(float inverse_scale, int zero) const;
  Candidate with_minimum(float scale, float offset) const;
  float error(const GroupGrid& grid) const;

  ScaleSearchOptions options_;
  Index size_;  // of the group
  int max_code_;
  int middle_;
  // The group, padded to whole vectors with its first weight at importance 0.
  std::vector<float> x_, h_;
  GroupRange range_;
};

}  // namespace calque::cpu
