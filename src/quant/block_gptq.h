#pragma once

#include "calque/quant/input_stats.h"
#include "calque/core/exec.h"
#include "calque/core/matrix.h"
#include "calque/quant/methods.h"
#include "calque/quant/rounder.h"
#include "quant/gptq_site.h"

namespace calque::quant {

// Whether the scales of `grid` can be refined: GGUF block types made of steps and scale codes.
bool has_block_structure(const Grid& grid);

// GPTQ on such a grid, at a usable site, of some rows of a matrix: scales by the format's own
// search on the original weights, weighted with the mean square of the inputs; codes by the sweep;
// then codes, scale codes and steps by refine_blocks.
GptqSums round_blocks_gptq(MatrixView<const float> weight_NK, const Grid& grid,
                           const RoundingOptions& options, const GptqSite& site,
                           const quant::InputStats& stats, QuantizedMatrix& q, const Exec& exec);

// Without statistics: the format's own rounding, then refine_blocks for the squared error.
Rounded round_blocks_alone(MatrixView<const float> weight_NK, const Grid& grid,
                           const RoundingOptions& options, const Exec& exec);

}  // namespace calque::quant
