#pragma once

#include "calque/core/cost.h"

namespace calque::quant {

// Cost of rounding one matrix, split by operation. Work done once for all matrices of a site is not
// included (kernels/inverse_cholesky.h).
struct RoundingCost {
  Cost energies;      // gram_energy of the error and of the weight
  Cost scale_search;  // scale_search or block_scale_search
  Cost sweep;         // gptq_sweep
  Cost refine_grid;
  Cost refine_blocks;
  double ggml_nanoseconds = 0;  // single-threaded time in llama.cpp's roundings
};

}  // namespace calque::quant
