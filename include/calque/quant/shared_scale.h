#pragma once

#include <span>

#include "calque/core/exec.h"
#include "calque/core/matrix.h"
#include "calque/kernels/scale_search.h"
#include "calque/quant/grid.h"
#include "calque/quant/input_stats.h"

namespace calque::quant {

// The one number of matrices that a runtime fuses into one: on a grid whose rows all share their
// scale that scale, chosen by `rule` for all of them together, weighted by the inputs that they
// have in common; on a grid with FP8 scales their divisor, with which the largest scale is FP8's
// largest number or, if the rule searches, has room to become larger. It goes into
// Grid::given_scale of each.
float shared_scale(std::span<const MatrixView<const float>> weights, const Grid& grid,
                   ScaleRule rule, const quant::InputStats& stats, const Exec& exec);

}  // namespace calque::quant
