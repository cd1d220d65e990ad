#pragma once

#include <span>

#include "calque/core/exec.h"
#include "calque/core/matrix.h"
#include "calque/kernels/scale_search.h"
#include "calque/quant/grid.h"
#include "calque/quant/input_stats.h"

namespace calque::quant {

// The one scale of matrices that a runtime fuses into one with one scale, on a grid whose rows all
// share theirs: chosen by `rule` for all of them together, weighted by the inputs that they have in
// common. It goes into Grid::given_scale of each.
float shared_scale(std::span<const MatrixView<const float>> weights, const Grid& grid,
                   ScaleRule rule, const quant::InputStats& stats, const Exec& exec);

}  // namespace calque::quant
