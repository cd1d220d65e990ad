#pragma once

#include "kernels/exec_backend.h"
#include "kernels/gram_sums.h"

namespace calque::cuda {

// The entries of kernels() (table.cpp); the contracts are in include/calque/kernels, the answers
// those of kernels/cpu.

GramCount accumulate_gram_f32(MatrixView<const float> inputs_TK, MatrixView<float> gram_KK,
                              std::span<double> magnitude_K, const Exec::Backend& backend);
GramCount accumulate_gram_bf16(MatrixView<const BFloat16> inputs_TK, MatrixView<float> gram_KK,
                               std::span<double> magnitude_K, const Exec::Backend& backend);
double gram_energy(MatrixView<const float> rows_NK, MatrixView<const float> gram_KK,
                   const Exec::Backend& backend);
std::unique_ptr<GramSum::Sums> start_gram(Index features, const Exec::Backend& backend);

}  // namespace calque::cuda
