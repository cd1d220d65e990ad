#pragma once

#include "kernels/cpu/panel.h"

namespace calque::cpu {

// Some neighbouring columns of a panel, turned, whose codes are about to move one after the other.
struct MovingColumns {
  MatrixView<float> values, codes;
  MatrixView<const float> residual;  // (weight - values) H before any of them moved
  MatrixView<float> moves;           // out: how far each value moved
};

// Moves the codes of column i to the nearest value of `grid` to the minimiser of the loss in that
// coordinate, in the rows where that lowers it; the columns before i have moved. `hessian` holds
// the columns' rows and columns of H; empty: H is the identity.
inline void move_codes(const MovingColumns& columns, MatrixView<const float> hessian, Index i,
                       Index group, const PanelGrid& grid) {
  Column residual = load_column(columns.residual.row(i));
  const Index coupled = hessian.empty() ? 0 : i;
  for (Index k = 0; k < coupled; ++k) {
    const Floats coupling = broadcast(hessian(k, i));
    const float* moves = columns.moves.row(k);
    for (int s = 0; s < kStrips; ++s) residual[s] -= load(moves + s * kLanes) * coupling;
  }
  const float curvature = hessian.empty() ? 1.0f : hessian(i, i);
  for (int s = 0; s < kStrips; ++s) {
    float* value_at = columns.values.row(i) + s * kLanes;
    float* code_at = columns.codes.row(i) + s * kLanes;
    const Floats value = load(value_at);
    const auto [code, target] = grid.nearest(value + residual[s] / curvature, group, s);
    const Floats move = target - value;
    const auto better = 2.0f * move * residual[s] - move * move * curvature > Floats{};
    store(columns.moves.row(i) + s * kLanes, better ? move : Floats{});
    store(value_at, better ? target : value);
    store(code_at, better ? code : load(code_at));
  }
}

}  // namespace calque::cpu
