#include "calque/kernels/scale_search.h"

#include "kernels/checks.h"
#include "kernels/cpu/grid_storage.h"
#include "kernels/exec_backend.h"

namespace calque {
namespace {

void check(std::string_view op, MatrixView<const float> weight_NK, Index group_size,
           const ScaleSearchOptions& options, MatrixView<const float> scales_NG,
           MatrixView<const float> offsets_NG) {
  const Index rows = weight_NK.rows();
  const Index columns = weight_NK.cols();
  expect_range(op, "group_size", group_size, 1, columns);
  expect_range(op, "columns beyond the last whole group", columns % group_size, 0, 0);
  expect_range(op, "bits", options.bits, 1, 8);
  expect_range(op, "min_zero", options.min_zero, 0, (1 << options.bits) - 1);
  expect_shape(op, "scales_NG", scales_NG, rows, columns / group_size);
  expect_shape(op, "offsets_NG", offsets_NG, rows, columns / group_size);
}

}  // namespace

void scale_search(MatrixView<const float> weight_NK, std::span<const float> importance_K,
                  Index group_size, const ScaleSearchOptions& options, MatrixView<float> scales_NG,
                  MatrixView<float> offsets_NG, const Exec& exec) {
  check("scale_search", weight_NK, group_size, options, scales_NG, offsets_NG);
  if (!importance_K.empty())
    expect_length("scale_search", "importance_K", importance_K.size(), weight_NK.cols());
  exec.backend().kernels.scale_search(weight_NK, importance_K, group_size, options, scales_NG,
                                      offsets_NG, exec.backend());
}

float rounded_scale(float scale, ScalePrecision precision) {
  return cpu::stored_scale(scale, precision);
}

float rounded_offset(float offset, ScalePrecision precision) {
  return cpu::stored(offset, precision);
}

void block_scale_search(MatrixView<const float> weight_NK, MatrixView<const float> hessian_KK,
                        Index group_size, const ScaleSearchOptions& options,
                        MatrixView<float> scales_NG, MatrixView<float> offsets_NG,
                        const Exec& exec) {
  const Index columns = weight_NK.cols();
  check("block_scale_search", weight_NK, group_size, options, scales_NG, offsets_NG);
  expect_shape("block_scale_search", "hessian_KK", hessian_KK, columns, columns);
  exec.backend().kernels.block_scale_search(weight_NK, hessian_KK, group_size, options, scales_NG,
                                            offsets_NG, exec.backend());
}

}  // namespace calque
