#pragma once

#include "calque/core/input_grid.h"
#include "calque/core/matrix.h"

namespace calque::forward {

// Replaces each row of a linear's inputs by the numbers that a server multiplies: scale times the
// nearest number to value / scale, ties to even, at most the largest. The scale is largest
// magnitude / largest number of the row or group (a row of zeros stays as it is), rounded to what
// InputGrid::Scale says, or the calibrated one. fp32.
void round_inputs(const InputGrid& grid, MatrixView<float> rows_TK);

}  // namespace calque::forward
