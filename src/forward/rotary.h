#pragma once

#include "calque/core/matrix.h"
#include "calque/model/config.h"

namespace calque::forward {

// Cosines and sines of every position's angles, [positions, turned(head_dim) / 2].
class Rotary {
 public:
  Rotary(const model::RopeSpec& rope, Index head_dim, Index positions);

  // out = x turned by the angles of `position`; pairs are (i, i + turned(head_dim) / 2), or (2i,
  // 2i + 1) if adjacent. Channels that do not turn are copied. `out` must not be `x`.
  void turn(const float* x, Index position, float* out) const;

 private:
  Index head_dim_;
  bool adjacent_;
  Matrix<float> cosines_;
  Matrix<float> sines_;
};

}  // namespace calque::forward
