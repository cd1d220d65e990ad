#include "calque/kernels/gram.h"
#include "calque/quant/rounder.h"

namespace calque::quant {

double gram_loss(MatrixView<const float> error_NK, MatrixView<const float> gram_KK,
                 const Exec& exec) {
  return gram_energy(error_NK, gram_KK, exec);
}

}  // namespace calque::quant
