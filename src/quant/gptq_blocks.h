#pragma once

#include <span>
#include <vector>

#include "calque/core/exec.h"
#include "calque/core/matrix.h"
#include "calque/quant/input_stats.h"
#include "calque/quant/methods.h"
#include "calque/quant/rounder.h"
#include "quant/gptq.h"
#include "quant/weights.h"

namespace calque::quant {

// The mean square of each input, with a floor; empty without statistics.
std::vector<float> block_importance(const quant::InputStats& stats);

// The format's own rounding, weighted by `importance_K` if it is not empty. Checks grid and
// weights.
QuantizedMatrix reference_blocks(MatrixView<const float> weight_NK, const Grid& grid,
                                 std::span<const float> importance_K, const Exec& exec);

// Rounds to a grid with `block` as llama.cpp does: with statistics, weighted by the mean square of
// each input (llama.cpp's importance matrix; report.method "imatrix"), else "rtn".
Rounded round_to_blocks(MatrixView<const float> weight_NK, const Grid& grid,
                        const quant::InputStats& stats, const ErrorMeasure& measure,
                        const Exec& exec);

// True if the scales of `grid` can be refined: GGUF block types made of steps and scale codes.
bool has_block_structure(const Grid& grid);

// True if the codes of `grid` stand for vectors: GGUF's IQ1, IQ2 and IQ3.
bool has_vectors(const Grid& grid);

// GPTQ on grids of either kind, at a usable site, for some rows of a matrix. Scales come from the
// format's own search on the original weights, weighted by the mean square of the inputs; codes
// from the sweep; refine_blocks (round_vectors) then improves codes, scale codes and steps. Vectors
// need a site that keeps runs.
GptqSums round_blocks_gptq(MatrixView<const float> weight_NK, const Grid& grid,
                           const RoundingOptions& options, const GptqSite& site,
                           const quant::InputStats& stats, QuantizedMatrix& q, const Exec& exec);

// Without statistics: the format's own rounding, then refine_blocks on the squared error.
Rounded round_blocks_alone(MatrixView<const float> weight_NK, const Grid& grid,
                           const RoundingOptions& options, const Exec& exec);

}  // namespace calque::quant
