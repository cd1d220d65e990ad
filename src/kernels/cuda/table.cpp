#include "kernels/cuda/backend.h"
#include "kernels/cuda/kernels.h"

namespace calque::cuda {

const KernelTable& kernels() {
  static constexpr KernelTable kTable = {.accumulate_gram_f32 = accumulate_gram_f32,
                                         .accumulate_gram_bf16 = accumulate_gram_bf16,
                                         .gram_energy = gram_energy,
                                         .start_gram = start_gram};
  return kTable;
}

}  // namespace calque::cuda
