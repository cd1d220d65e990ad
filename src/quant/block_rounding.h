#pragma once

#include "calque/calib/input_stats.h"
#include "calque/core/exec.h"
#include "calque/core/matrix.h"
#include "calque/quant/rounder.h"

namespace calque::quant {

// Rounds to a grid with `block` as llama.cpp does: weighted with the mean square of each input
// where there are statistics (its importance matrix; report.method "imatrix"), else "rtn".
Rounded round_to_blocks(MatrixView<const float> weight_NK, const Grid& grid,
                        const calib::InputStats& stats, const Exec& exec);

}  // namespace calque::quant
