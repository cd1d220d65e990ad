#pragma once

#include "calque/core/exec.h"
#include "calque/core/matrix.h"
#include "calque/quant/quantized_matrix.h"

namespace calque::quant {

// Rounds as mlx.core.quantize does in its affine mode, on a grid with kMinimum and Grid::mlx. The
// offset of a group is its weight w of largest magnitude; the scale, whose sign leads from there
// towards 0, divides it so that 0 is a value of the group. With n = 2^bits - 1:
//   step = max((max - min) / n, 1e-7), negative if w is positive
//   scale = w / rint(w / step); where that divides by 0: scale = step, offset = 0
//   code = rint((weight - offset) / scale), within 0 and n
// in fp32. Codes are chosen before scale and offset are rounded to the grid's precision.
QuantizedMatrix round_as_mlx(MatrixView<const float> weight_NK, const Grid& grid, const Exec& exec);

}  // namespace calque::quant
