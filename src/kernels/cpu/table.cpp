#include "kernels/cpu/kernels.h"

namespace calque {

const KernelTable& cpu_kernels() {
  static constexpr KernelTable kTable = {
      .accumulate_gram_f32 = cpu::accumulate_gram_f32,
      .accumulate_gram_bf16 = cpu::accumulate_gram_bf16,
      .gram_energy = cpu::gram_energy,
      .inverse_cholesky = cpu::inverse_cholesky,
      .inverse_cholesky_in_place = cpu::inverse_cholesky_in_place,
      .round_to_grid = cpu::round_to_grid,
      .gptq_sweep = cpu::gptq_sweep,
      .scale_search = cpu::scale_search,
      .block_scale_search = cpu::block_scale_search,
      .refine_grid = cpu::refine_grid,
      .refine_blocks = cpu::refine_blocks,
      .pack_columns = cpu::pack_columns,
      .pack_rows = cpu::pack_rows};
  return kTable;
}

}  // namespace calque
