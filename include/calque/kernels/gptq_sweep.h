#pragma once

#include <cstdint>

#include "calque/core/cost.h"
#include "calque/core/exec.h"
#include "calque/core/matrix.h"
#include "calque/kernels/round_to_grid.h"

namespace calque {

struct GptqSweep {
  MatrixView<float> weight_NK;  // consumed: on return it holds the dequantized values
  // U with H^-1 = U^T U (inverse_cholesky.h), its columns in the same order as weight's.
  MatrixView<const float> inverse_factor_KK;
  GridView grid;                      // codes of a zero scale carry no meaning
  Index block_size = 128;             // at least 1
  MatrixView<std::uint8_t> codes_NK;  // out
};

// GPTQ's column loop (arXiv 2210.17323, algorithm 1). For each column i in order:
//   codes_i = nearest code of weight_i on its group's frozen grid,
//   e = (weight_i - value(codes_i)) / U_ii,  weight_j -= e * U_ij for all j > i,
// with the updates of columns beyond a block of `block_size` deferred to one matrix product. fp32
// throughout.
// Returns sum e^2: the layer loss tr(E H E^T) that the sweep expects. `block_size` changes speed,
// and the result only by the rounding of sums. Does not depend on the number of threads.
double gptq_sweep(const GptqSweep& sweep, const Exec& exec);

constexpr Cost gptq_sweep_cost(Index N, Index K) {
  return {.flops = static_cast<double>(N) * static_cast<double>(K) * static_cast<double>(K)};
}

}  // namespace calque
