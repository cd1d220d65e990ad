#include "calque/kernels/refine_grid.h"

#include "kernels/checks.h"
#include "kernels/exec_backend.h"

namespace calque {

double refine_grid(MatrixView<const float> weight_NK, MatrixView<const float> hessian_KK,
                   Index group_size, const RefineOptions& options, MatrixView<float> scales_NG,
                   MatrixView<float> offsets_NG, MatrixView<std::uint8_t> codes_NK,
                   const Exec& exec) {
  const Index rows = weight_NK.rows();
  const Index columns = weight_NK.cols();
  expect_range("refine_grid", "group_size", group_size, 1, columns);
  expect_range("refine_grid", "columns beyond the last whole group", columns % group_size, 0, 0);
  expect_range("refine_grid", "max_code", options.max_code, 1, 255);
  expect_shape("refine_grid", "hessian_KK", hessian_KK, columns, columns);
  expect_shape("refine_grid", "scales_NG", scales_NG, rows, columns / group_size);
  expect_shape("refine_grid", "offsets_NG", offsets_NG, rows, columns / group_size);
  expect_shape("refine_grid", "codes_NK", codes_NK, rows, columns);
  return exec.backend().kernels.refine_grid(weight_NK, hessian_KK, group_size, options, scales_NG,
                                            offsets_NG, codes_NK, exec.backend());
}

}  // namespace calque
