#include "calque/kernels/round_to_grid.h"

#include "kernels/checks.h"
#include "kernels/exec_backend.h"

namespace calque {

void round_to_grid(MatrixView<const float> weight_NK, MatrixView<const float> scales_NG,
                   MatrixView<const float> offsets_NG,
                   std::span<const std::int32_t> group_of_column_K, int max_code,
                   MatrixView<std::uint8_t> codes_NK, const Exec& exec) {
  expect_grid("round_to_grid", weight_NK.rows(), weight_NK.cols(), scales_NG, offsets_NG,
              group_of_column_K);
  expect_shape("round_to_grid", "codes_NK", codes_NK, weight_NK.rows(), weight_NK.cols());
  expect_range("round_to_grid", "max_code", max_code, 1, 255);
  exec.backend().kernels.round_to_grid(weight_NK, scales_NG, offsets_NG, group_of_column_K,
                                       max_code, codes_NK, exec.backend());
}

}  // namespace calque
