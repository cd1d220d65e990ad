#pragma once

#include <span>
#include <vector>

#include "calque/quant/input_stats.h"
#include "calque/core/exec.h"
#include "calque/core/matrix.h"
#include "calque/quant/rounder.h"
#include "quant/weights.h"

namespace calque::quant {

// The mean square of each input, with a floor; empty without statistics.
std::vector<float> block_importance(const quant::InputStats& stats);

// The format's own rounding, weighted with `importance_K` (empty: not). Checks grid and weights.
QuantizedMatrix reference_blocks(MatrixView<const float> weight_NK, const Grid& grid,
                                 std::span<const float> importance_K, const Exec& exec);

// Rounds to a grid with `block` as llama.cpp does: weighted with the mean square of each input
// where there are statistics (its importance matrix; report.method "imatrix"), else "rtn".
Rounded round_to_blocks(MatrixView<const float> weight_NK, const Grid& grid,
                        const quant::InputStats& stats, const ErrorMeasure& measure,
                        const Exec& exec);

}  // namespace calque::quant
