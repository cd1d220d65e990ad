#pragma once

#include <span>

#include "forward/cpu/mixer.h"
#include "mixers/mlp/spec.h"

namespace calque::forward {

template <typename T>
std::unique_ptr<CpuMixer<T>> make_mlp(const CpuHalf<T>& half);

// out_TN = act(gate x) * up x, or a clamped gate's rule, of normed rows x; `linears` are gate and
// up, or one with gate's rows above up's.
template <typename T>
void gated_rows(std::span<const PreparedLinear<T>> linears, const model::Activation& activation,
                MatrixView<const T> normed_TH, Workspace<T>& workspace, MatrixView<T> out_TN);

}  // namespace calque::forward
