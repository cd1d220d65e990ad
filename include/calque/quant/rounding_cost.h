#pragma once

#include "calque/core/cost.h"

namespace calque::quant {

// What rounding one matrix takes, by the operations of which it is made. What is done once for the
// matrices of a site is not in it (kernels/inverse_cholesky.h).
struct RoundingCost {
  Cost energies;      // gram_energy, of the error and of the weight
  Cost scale_search;  // scale_search or block_scale_search
  Cost sweep;         // gptq_sweep
  Cost refine_grid;
  Cost refine_blocks;
  double ggml_nanoseconds = 0;  // of one thread, in llama.cpp's roundings
};

}  // namespace calque::quant
