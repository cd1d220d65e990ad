#pragma once

#include <cstdint>
#include <span>

#include "calque/core/exec.h"
#include "calque/core/matrix.h"

namespace calque {

// GPTQ's column loop (arXiv 2210.17323, algorithm 1). For each column i in order:
//   codes_i = nearest code of weight_i on its group's frozen grid,
//   e = (weight_i - value(codes_i)) / U_ii,  weight_j -= e * U_ij for all j > i,
// with the updates of columns beyond a block of `block_size` deferred to one matrix product.
// `weight_NK` is consumed: on return it holds the dequantized values. `inverse_factor_KK` is U with
// H^-1 = U^T U (see inverse_cholesky.h), its columns in the same order as weight's.
// Scale and offset of row n at column k: scales_NG[n][group_of_column_K[k]]; scales may be
// negative, codes of a zero scale carry no meaning. With a `table` of max_code + 1 rising levels
//   value = scale * table[code] + offset
// instead of scale * code + offset. fp32 throughout.
// Returns sum e^2: the layer loss tr(E H E^T) that the sweep expects. `block_size` changes speed,
// and the result only by the rounding of sums. Does not depend on the number of threads.
double gptq_sweep(MatrixView<float> weight_NK, MatrixView<const float> inverse_factor_KK,
                  MatrixView<const float> scales_NG, MatrixView<const float> offsets_NG,
                  std::span<const std::int32_t> group_of_column_K, int max_code, Index block_size,
                  MatrixView<std::uint8_t> codes_NK, const Exec& exec,
                  std::span<const float> table = {});

}  // namespace calque
