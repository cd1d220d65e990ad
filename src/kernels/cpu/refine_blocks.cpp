#include "calque/kernels/refine_blocks.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "kernels/cpu/kernels.h"
#include "kernels/cpu/sgemm.h"
#include "kernels/cpu/super_block.h"

namespace calque::cpu {
namespace {

struct Refinement {
  MatrixView<const float> weight_NK, hessian_KK;
  const GgmlStructure& structure;
  int passes;
  GgmlFields& fields;
  std::vector<SuperBlock::Curvature> curvature_S;
};

// The passes over the rows [first, first + count). Invariant between super-blocks: values_PK_ are
// the dequantized codes and residual_PK_ = (weight - values) H.
class Panel {
 public:
  Panel(const Refinement& task, Index first, Index count)
      : task_(task),
        first_(first),
        weight_PK_(task.weight_NK.rows(first, count)),
        values_PK_(Matrix<float>::uninitialized(count, weight_PK_.cols())),
        residual_PK_(Matrix<float>::uninitialized(count, weight_PK_.cols())),
        moves_PS_(Matrix<float>::uninitialized(count, task.structure.super)),
        block_(task.structure) {}

  void run(std::span<double> losses) {
    dequantize();
    start_residual();
    for (int pass = 0; pass < task_.passes; ++pass)
      for (Index s = 0; s < weight_PK_.cols() / task_.structure.super; ++s) refine_super_block(s);
    for (Index r = 0; r < weight_PK_.rows(); ++r) losses[static_cast<std::size_t>(r)] = loss(r);
  }

 private:
  void dequantize() {
    const GgmlFields& fields = task_.fields;
    for (Index r = 0; r < weight_PK_.rows(); ++r)
      for (Index k = 0; k < weight_PK_.cols(); ++k) {
        const Index g = k / task_.structure.group, s = k / task_.structure.super, n = first_ + r;
        const float scale = fields.steps_NS(n, s) * fields.scale_codes_NG(n, g);
        const float offset = -fields.minimum_steps_NS(n, s) * fields.minimum_codes_NG(n, g);
        values_PK_(r, k) = scale * task_.structure.levels[fields.codes_NK(n, k)] + offset;
      }
  }

  void start_residual() {
    Matrix<float> error_PK = Matrix<float>::uninitialized(weight_PK_.rows(), weight_PK_.cols());
    for (Index r = 0; r < error_PK.rows(); ++r)
      for (Index k = 0; k < error_PK.cols(); ++k)
        error_PK(r, k) = weight_PK_(r, k) - values_PK_(r, k);
    if (task_.hessian_KK.empty())
      residual_PK_ = std::move(error_PK);
    else
      sgemm(1.0f, error_PK, task_.hessian_KK, 0.0f, residual_PK_);
  }

  void refine_super_block(Index s) {
    const Index width = task_.structure.super;
    const MatrixView<float> values_PS = values_PK_.view().cols(s * width, width);
    const MatrixView<float> residual_PS = residual_PK_.view().cols(s * width, width);
    for (Index r = 0; r < values_PS.rows(); ++r)
      std::copy_n(values_PS.row(r), width, moves_PS_.row(r));
    const SuperBlock::Rows rows = {task_.fields, first_,     values_PS.rows(), s,
                                   values_PS,    residual_PS};
    block_.load_rows(rows);
    block_.refine(task_.curvature_S[static_cast<std::size_t>(s)]);
    block_.store_rows(rows);
    for (Index r = 0; r < values_PS.rows(); ++r)
      for (Index k = 0; k < width; ++k) moves_PS_(r, k) = values_PS(r, k) - moves_PS_(r, k);
    subtract_moves(s, residual_PS);
  }

  void subtract_moves(Index s, MatrixView<float> residual_PS) {
    const Index width = task_.structure.super;
    if (!task_.hessian_KK.empty()) {
      sgemm(-1.0f, moves_PS_, task_.hessian_KK.rows(s * width, width), 1.0f, residual_PK_);
      return;
    }
    for (Index r = 0; r < residual_PS.rows(); ++r)
      for (Index k = 0; k < width; ++k) residual_PS(r, k) -= moves_PS_(r, k);
  }

  double loss(Index r) const {
    double total = 0;
    for (Index k = 0; k < weight_PK_.cols(); ++k)
      total += static_cast<double>(weight_PK_(r, k) - values_PK_(r, k)) * residual_PK_(r, k);
    return total;
  }

  const Refinement& task_;
  Index first_;
  MatrixView<const float> weight_PK_;
  Matrix<float> values_PK_, residual_PK_;
  Matrix<float> moves_PS_;  // of the current super-block: values before it, then how far they moved
  SuperBlock block_;
};

}  // namespace

void refine_blocks(MatrixView<const float> weight_NK, MatrixView<const float> hessian_KK,
                   const GgmlStructure& structure, int passes, GgmlFields& fields,
                   std::span<double> losses_N, const Exec::Backend& backend) {
  Refinement task = {weight_NK, hessian_KK, structure, passes, fields, {}};
  task.curvature_S.resize(static_cast<std::size_t>(weight_NK.cols() / structure.super));
  backend.workers.for_each(weight_NK.cols() / structure.super, [&](Index s) {
    task.curvature_S[static_cast<std::size_t>(s)] = SuperBlock::curvature(structure, hessian_KK, s);
  });
  const Index panels = (weight_NK.rows() + kPanelRows - 1) / kPanelRows;
  backend.workers.for_each(panels, [&](Index p) {
    const Index first = p * kPanelRows;
    const Index count = std::min(kPanelRows, weight_NK.rows() - first);
    Panel(task, first, count)
        .run(losses_N.subspan(static_cast<std::size_t>(first), static_cast<std::size_t>(count)));
  });
}

}  // namespace calque::cpu
