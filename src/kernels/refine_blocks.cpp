#include "calque/kernels/refine_blocks.h"

#include "kernels/checks.h"
#include "kernels/exec_backend.h"

namespace calque {

void refine_blocks(MatrixView<const float> weight_NK, MatrixView<const float> hessian_KK,
                   const GgmlStructure& structure, int passes, GgmlFields& fields,
                   std::span<double> losses_N, const Exec& exec) {
  constexpr const char* kOp = "refine_blocks";
  const Index rows = weight_NK.rows();
  const Index columns = weight_NK.cols();
  expect_range(kOp, "columns beyond the last super-block", columns % structure.super, 0, 0);
  if (!hessian_KK.empty()) expect_shape(kOp, "hessian_KK", hessian_KK, columns, columns);
  const Index groups = columns / structure.group;
  const Index supers = columns / structure.super;
  expect_shape(kOp, "codes_NK", fields.codes_NK.view(), rows, columns);
  expect_shape(kOp, "scale_codes_NG", fields.scale_codes_NG.view(), rows, groups);
  expect_shape(kOp, "minimum_codes_NG", fields.minimum_codes_NG.view(), rows, groups);
  expect_shape(kOp, "steps_NS", fields.steps_NS.view(), rows, supers);
  expect_shape(kOp, "minimum_steps_NS", fields.minimum_steps_NS.view(), rows, supers);
  expect_length(kOp, "losses_N", losses_N.size(), rows);
  exec.backend().kernels.refine_blocks(weight_NK, hessian_KK, structure, passes, fields, losses_N,
                                       exec.backend());
}

}  // namespace calque
