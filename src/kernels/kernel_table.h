#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "calque/core/dtype.h"
#include "calque/core/exec.h"
#include "calque/core/matrix.h"
#include "calque/ggml/fields.h"
#include "calque/kernels/gram.h"
#include "calque/kernels/refine_grid.h"
#include "calque/kernels/scale_search.h"

namespace calque {

// What a device provides: the operations of include/calque/kernels, arguments already checked. A
// null entry: not implemented there (see provides() in calque/kernels/operations.h).
struct KernelTable {
  GramCount (*accumulate_gram_f32)(MatrixView<const float> inputs_TK, MatrixView<float> gram_KK,
                                   std::span<double> magnitude_K, const Exec::Backend& backend);
  GramCount (*accumulate_gram_bf16)(MatrixView<const BFloat16> inputs_TK, MatrixView<float> gram_KK,
                                    std::span<double> magnitude_K, const Exec::Backend& backend);
  double (*gram_energy)(MatrixView<const float> rows_NK, MatrixView<const float> gram_KK,
                        const Exec::Backend& backend);
  std::optional<Matrix<float>> (*inverse_cholesky)(MatrixView<const float> hessian_KK,
                                                   const Exec::Backend& backend);
  // The same in the memory of its argument, which is of no use after false; null: use the other.
  bool (*inverse_cholesky_in_place)(MatrixView<float> hessian_KK, const Exec::Backend& backend);
  void (*round_to_grid)(MatrixView<const float> weight_NK, MatrixView<const float> scales_NG,
                        MatrixView<const float> offsets_NG,
                        std::span<const std::int32_t> group_of_column_K, int max_code,
                        MatrixView<std::uint8_t> codes_NK, const Exec::Backend& backend);
  double (*gptq_sweep)(MatrixView<float> weight_NK, MatrixView<const float> inverse_factor_KK,
                       MatrixView<const float> scales_NG, MatrixView<const float> offsets_NG,
                       std::span<const std::int32_t> group_of_column_K, int max_code,
                       std::span<const float> table, Index block_size,
                       MatrixView<std::uint8_t> codes_NK, const Exec::Backend& backend);
  void (*scale_search)(MatrixView<const float> weight_NK, std::span<const float> importance_K,
                       Index group_size, const ScaleSearchOptions& options,
                       MatrixView<float> scales_NG, MatrixView<float> offsets_NG,
                       const Exec::Backend& backend);
  void (*block_scale_search)(MatrixView<const float> weight_NK, MatrixView<const float> hessian_KK,
                             Index group_size, const ScaleSearchOptions& options,
                             MatrixView<float> scales_NG, MatrixView<float> offsets_NG,
                             const Exec::Backend& backend);
  double (*refine_grid)(MatrixView<const float> weight_NK, MatrixView<const float> hessian_KK,
                        Index group_size, const RefineOptions& options, MatrixView<float> scales_NG,
                        MatrixView<float> offsets_NG, MatrixView<std::uint8_t> codes_NK,
                        const Exec::Backend& backend);
  void (*refine_blocks)(MatrixView<const float> weight_NK, MatrixView<const float> hessian_KK,
                        const GgmlStructure& structure, int passes, GgmlFields& fields,
                        std::span<double> losses_N, const Exec::Backend& backend);
  // Sums that stay on the device between calls; null: on the host, through accumulate_gram.
  std::unique_ptr<GramSum::Sums> (*start_gram)(Index features, const Exec::Backend& backend);
  void (*pack_columns)(MatrixView<const std::uint8_t> codes_KN, int bits,
                       MatrixView<std::int32_t> words_PN, const Exec::Backend& backend);
  void (*pack_rows)(MatrixView<const std::uint8_t> codes_RC, int bits,
                    MatrixView<std::int32_t> words_RP, const Exec::Backend& backend);
};

const KernelTable& cpu_kernels();

// The CUDA side: a plug-in of its own (libcalque_cuda.so), so that the program starts without
// cuBLAS and runs on machines that have no driver.
struct CudaBackend {
  const KernelTable* kernels = nullptr;
  int (*device_count)() = nullptr;
  std::vector<DeviceFacts> (*devices)() = nullptr;
  std::shared_ptr<void> (*open)(int index) = nullptr;  // what Exec::Backend::device holds
  std::string (*why_no_device)() = nullptr;            // empty if there is one
};

// Null in a build without CUDA (cuda/none.cpp), or where the plug-in does not load
// (cuda/loader.cpp).
const CudaBackend* cuda_backend();
std::string why_no_cuda_backend();

}  // namespace calque
