#include "kernels/cuda/backend.h"
#include "kernels/cuda/kernels.h"

namespace calque::cuda {

const KernelTable& kernels() {
  static constexpr KernelTable kTable = {.accumulate_gram_f32 = accumulate_gram_f32,
                                         .accumulate_gram_bf16 = accumulate_gram_bf16,
                                         .gram_energy = gram_energy,
                                         .inverse_cholesky = inverse_cholesky,
                                         .round_to_grid = round_to_grid,
                                         .gptq_sweep = gptq_sweep,
                                         .scale_search = scale_search,
                                         .refine_grid = refine_grid,
                                         .start_gram = start_gram,
                                         .pack_columns = pack_columns,
                                         .pack_rows = pack_rows};
  return kTable;
}

}  // namespace calque::cuda
