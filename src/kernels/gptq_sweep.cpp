#include "calque/kernels/gptq_sweep.h"

#include <algorithm>

#include "kernels/checks.h"
#include "kernels/exec_backend.h"

namespace calque {

double gptq_sweep(MatrixView<float> weight_NK, MatrixView<const float> inverse_factor_KK,
                  MatrixView<const float> scales_NG, MatrixView<const float> offsets_NG,
                  std::span<const std::int32_t> group_of_column_K, int max_code, Index block_size,
                  MatrixView<std::uint8_t> codes_NK, const Exec& exec,
                  std::span<const float> table) {
  const Index columns = weight_NK.cols();
  expect_shape("gptq_sweep", "inverse_factor_KK", inverse_factor_KK, columns, columns);
  expect_grid("gptq_sweep", weight_NK.rows(), columns, scales_NG, offsets_NG, group_of_column_K);
  expect_shape("gptq_sweep", "codes_NK", codes_NK, weight_NK.rows(), columns);
  expect_range("gptq_sweep", "max_code", max_code, 1, 255);
  expect_range("gptq_sweep", "block_size", block_size, 1, 1 << 20);
  if (!table.empty()) expect_length("gptq_sweep", "table", table.size(), max_code + 1);
  return exec.backend().kernels.gptq_sweep(
      weight_NK, inverse_factor_KK, scales_NG, offsets_NG, group_of_column_K, max_code, table,
      std::min(block_size, std::max<Index>(columns, 1)), codes_NK, exec.backend());
}

}  // namespace calque
