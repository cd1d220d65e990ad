#include "calque/kernels/scale_search.h"

#include "kernels/checks.h"
#include "kernels/exec_backend.h"

namespace calque {

void scale_search(MatrixView<const float> weight_NK, std::span<const float> importance_K,
                  Index group_size, const ScaleSearchOptions& options, MatrixView<float> scales_NG,
                  MatrixView<float> offsets_NG, const Exec& exec) {
  const Index rows = weight_NK.rows();
  const Index columns = weight_NK.cols();
  expect_range("scale_search", "group_size", group_size, 1, columns);
  expect_range("scale_search", "columns beyond the last whole group", columns % group_size, 0, 0);
  expect_range("scale_search", "bits", options.bits, 1, 8);
  expect_range("scale_search", "min_zero", options.min_zero, 0, (1 << options.bits) - 1);
  expect_shape("scale_search", "scales_NG", scales_NG, rows, columns / group_size);
  expect_shape("scale_search", "offsets_NG", offsets_NG, rows, columns / group_size);
  if (!importance_K.empty())
    expect_length("scale_search", "importance_K", importance_K.size(), columns);
  exec.backend().kernels.scale_search(weight_NK, importance_K, group_size, options, scales_NG,
                                      offsets_NG, exec.backend());
}

}  // namespace calque
