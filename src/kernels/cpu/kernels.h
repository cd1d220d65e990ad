#pragma once

#include "kernels/exec_backend.h"

namespace calque::cpu {

// The entries of cpu_kernels(); the contracts are in include/calque/kernels.

GramCount accumulate_gram_f32(MatrixView<const float> inputs_TK, MatrixView<float> gram_KK,
                              std::span<double> magnitude_K, const Exec::Backend& backend);
GramCount accumulate_gram_bf16(MatrixView<const BFloat16> inputs_TK, MatrixView<float> gram_KK,
                               std::span<double> magnitude_K, const Exec::Backend& backend);
double gram_energy(MatrixView<const float> rows_NK, MatrixView<const float> gram_KK,
                   const Exec::Backend& backend);
std::optional<Matrix<float>> inverse_cholesky(MatrixView<const float> hessian_KK,
                                              const Exec::Backend& backend);
bool inverse_cholesky_in_place(MatrixView<float> hessian_KK, const Exec::Backend& backend);
// Its arithmetic for large matrices: in fp32, without another matrix.
bool inverse_cholesky_f32(MatrixView<float> hessian_KK, const Workers& workers);
void round_to_grid(MatrixView<const float> weight_NK, MatrixView<const float> scales_NG,
                   MatrixView<const float> offsets_NG,
                   std::span<const std::int32_t> group_of_column_K, int max_code,
                   MatrixView<std::uint8_t> codes_NK, const Exec::Backend& backend);
double gptq_sweep(MatrixView<float> weight_NK, MatrixView<const float> inverse_factor_KK,
                  MatrixView<const float> scales_NG, MatrixView<const float> offsets_NG,
                  std::span<const std::int32_t> group_of_column_K, int max_code,
                  std::span<const float> table, Index block_size, MatrixView<std::uint8_t> codes_NK,
                  const Exec::Backend& backend);
void scale_search(MatrixView<const float> weight_NK, std::span<const float> importance_K,
                  Index group_size, const ScaleSearchOptions& options, MatrixView<float> scales_NG,
                  MatrixView<float> offsets_NG, const Exec::Backend& backend);
void block_scale_search(MatrixView<const float> weight_NK, MatrixView<const float> hessian_KK,
                        Index group_size, const ScaleSearchOptions& options,
                        MatrixView<float> scales_NG, MatrixView<float> offsets_NG,
                        const Exec::Backend& backend);
double refine_grid(MatrixView<const float> weight_NK, MatrixView<const float> hessian_KK,
                   Index group_size, const RefineOptions& options, MatrixView<float> scales_NG,
                   MatrixView<float> offsets_NG, MatrixView<std::uint8_t> codes_NK,
                   const Exec::Backend& backend);
void refine_blocks(MatrixView<const float> weight_NK, MatrixView<const float> hessian_KK,
                   const GgmlStructure& structure, int passes, GgmlFields& fields,
                   std::span<double> losses_N, const Exec::Backend& backend);
void pack_columns(MatrixView<const std::uint8_t> codes_KN, int bits,
                  MatrixView<std::int32_t> words_PN, const Exec::Backend& backend);
void pack_rows(MatrixView<const std::uint8_t> codes_RC, int bits, MatrixView<std::int32_t> words_RP,
               const Exec::Backend& backend);

// The same on the calling thread.
void pack_columns(MatrixView<const std::uint8_t> codes_KN, int bits,
                  MatrixView<std::int32_t> words_PN);
void pack_rows(MatrixView<const std::uint8_t> codes_RC, int bits,
               MatrixView<std::int32_t> words_RP);

}  // namespace calque::cpu
