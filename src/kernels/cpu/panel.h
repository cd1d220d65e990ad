#pragma once

#include <array>

#include "calque/core/matrix.h"
#include "kernels/cpu/simd.h"

namespace calque::cpu {

// Rows of a weight matrix are independent in GPTQ and coordinate descent, columns are not. So the
// column loops work on panels of this many rows, turned so that the rows of one column are
// neighbours: every operation of the loop is a vector operation over rows.
constexpr Index kPanelRows = 64;
constexpr int kStrips = kPanelRows / kLanes;

// One column of a panel.
using Column = std::array<Floats, kStrips>;

inline Column load_column(const float* p) {
  Column column;
  for (int s = 0; s < kStrips; ++s) column[s] = load(p + s * kLanes);
  return column;
}
inline void store_column(float* p, const Column& column) {
  for (int s = 0; s < kStrips; ++s) store(p + s * kLanes, column[s]);
}

// `turned` [cols, kPanelRows] = source^T; the missing rows of a last panel become `filler`.
inline void turn(MatrixView<const float> source, float filler, MatrixView<float> turned) {
  for (Index c = 0; c < source.cols(); ++c) {
    float* column = turned.row(c);
    for (Index r = 0; r < source.rows(); ++r) column[r] = source(r, c);
    for (Index r = source.rows(); r < kPanelRows; ++r) column[r] = filler;
  }
}

// target [rows, cols] = turned^T, element by element converted to T.
template <typename T>
void turn_back(MatrixView<const float> turned, MatrixView<T> target) {
  for (Index r = 0; r < target.rows(); ++r) {
    T* row = target.row(r);
    for (Index c = 0; c < target.cols(); ++c) row[c] = static_cast<T>(turned(c, r));
  }
}

// The grids of a panel's rows, turned: row g holds group g. A zero scale divides as infinity, so
// its code is 0.
class PanelGrid {
 public:
  PanelGrid(MatrixView<const float> scales_PG, MatrixView<const float> offsets_PG, int max_code);

  struct Rounded {
    Floats code, value;
  };
  // The nearest code of `weight` (rows of strip s) on the grid of `group`, and its value.
  Rounded nearest(Floats weight, Index group, int s) const {
    const Index at = s * kLanes;
    const Floats offset = load(offsets_.row(group) + at);
    const Floats code = nearest_code((weight - offset) / load(divisors_.row(group) + at), Floats{},
                                     broadcast(max_code_));
    return {code, load(scales_.row(group) + at) * code + offset};
  }

 private:
  Matrix<float> scales_, offsets_, divisors_;
  float max_code_;
};

inline PanelGrid::PanelGrid(MatrixView<const float> scales_PG, MatrixView<const float> offsets_PG,
                            int max_code)
    : scales_(Matrix<float>::uninitialized(scales_PG.cols(), kPanelRows)),
      offsets_(Matrix<float>::uninitialized(scales_PG.cols(), kPanelRows)),
      divisors_(Matrix<float>::uninitialized(scales_PG.cols(), kPanelRows)),
      max_code_(static_cast<float>(max_code)) {
  turn(scales_PG, 1.0f, scales_);
  turn(offsets_PG, 0.0f, offsets_);
  for (Index i = 0; i < scales_.size(); ++i) {
    const float scale = scales_.data()[i];
    divisors_.data()[i] = scale == 0.0f ? __builtin_inff() : scale;
  }
}

}  // namespace calque::cpu
