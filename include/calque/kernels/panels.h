#pragma once

#include <cstdint>

#include "calque/core/matrix.h"

namespace calque {

// Rows of a weight matrix are independent in GPTQ and coordinate descent, columns are not. So the
// operations whose loops run over columns (gptq_sweep.h, refine_grid.h, refine_blocks.h) take this
// many rows at a time on the CPU, or fewer, one panel a thread.
inline constexpr Index kPanelRows = 64;

// Each of them holds this at most: the weights, their values and the gradients of a panel, fp32.
constexpr std::uint64_t panel_scratch_bytes(Index K, std::uint64_t threads) {
  return threads * 3 * sizeof(float) * static_cast<std::uint64_t>(kPanelRows * K);
}

}  // namespace calque
