#include "kernels/cpu/super_block.h"

#include <algorithm>

#include "kernels/cpu/coordinate_descent.h"
#include "kernels/cpu/sgemm.h"

namespace calque::cpu {
namespace {

Matrix<float> buffer(Index rows) { return Matrix<float>::uninitialized(rows, kPanelRows); }

Matrix<float> sums_of_groups(MatrixView<const float> hessian, Index size, Index group) {
  Matrix<float> sums(size / group, size / group);
  for (Index i = 0; i < size; ++i) {
    if (hessian.empty()) sums(i / group, i / group) += 1.0f;
    for (Index j = 0; j < hessian.cols(); ++j) sums(i / group, j / group) += hessian(i, j);
  }
  return sums;
}

}  // namespace

SuperBlock::Curvature SuperBlock::curvature(const GgmlStructure& structure,
                                            MatrixView<const float> hessian_KK, Index super) {
  const Index width = structure.super;
  Curvature result;
  if (!hessian_KK.empty())
    result.hessian = hessian_KK.rows(super * width, width).cols(super * width, width);
  if (structure.has_minima())
    result.group_sums = sums_of_groups(result.hessian, width, structure.group);
  return result;
}

SuperBlock::SuperBlock(const GgmlStructure& structure)
    : structure_(structure),
      table_(structure.table()),
      values_(buffer(structure.super)),
      codes_(buffer(structure.super)),
      residual_(buffer(structure.super)),
      directions_(buffer(structure.super)),
      curved_(buffer(structure.super)),
      scale_codes_(buffer(structure.super / structure.group)),
      minimum_codes_(buffer(structure.super / structure.group)),
      steps_(buffer(2)),
      moves_(buffer(structure.group)) {}

void SuperBlock::load_rows(const Rows& rows) {
  const Index columns = structure_.super;
  const Index groups = columns / structure_.group;
  const auto here = [&](auto& matrix, Index width) {
    return matrix.view().rows(rows.first, rows.count).cols(rows.super * width, width);
  };
  turn(here(rows.fields.codes_NK, columns), 0.0f, codes_);
  turn(here(rows.fields.scale_codes_NG, groups), 0.0f, scale_codes_);
  turn(here(rows.fields.minimum_codes_NG, groups), 0.0f, minimum_codes_);
  turn(here(rows.fields.steps_NS, 1), 0.0f, steps_.view().rows(0, 1));
  turn(here(rows.fields.minimum_steps_NS, 1), 0.0f, steps_.view().rows(1, 1));
  turn(rows.values_PS, 0.0f, values_);
  turn(rows.residual_PS, 0.0f, residual_);
}

void SuperBlock::store_rows(const Rows& rows) const {
  const Index columns = structure_.super;
  const Index groups = columns / structure_.group;
  const auto here = [&](auto& matrix, Index width) {
    return matrix.view().rows(rows.first, rows.count).cols(rows.super * width, width);
  };
  turn_back(codes_, here(rows.fields.codes_NK, columns));
  turn_back(scale_codes_, here(rows.fields.scale_codes_NG, groups));
  turn_back(minimum_codes_, here(rows.fields.minimum_codes_NG, groups));
  turn_back(steps_.view().rows(0, 1), here(rows.fields.steps_NS, 1));
  turn_back(steps_.view().rows(1, 1), here(rows.fields.minimum_steps_NS, 1));
  turn_back(values_, rows.values_PS);
}

void SuperBlock::refine(const Curvature& curvature) {
  const PanelGrid frozen = grid();
  for (Index g = 0; g < scale_codes_.rows(); ++g) {
    move_group(curvature, g, frozen);
    if (structure_.lowest_scale < structure_.highest_scale) choose_scale_codes(curvature, g);
  }
  refine_steps(curvature);
}

Floats SuperBlock::scale(Index g, int s) const {
  return load_strip(steps_, 0, s) * load_strip(scale_codes_, g, s);
}
Floats SuperBlock::offset(Index g, int s) const {
  return -load_strip(steps_, 1, s) * load_strip(minimum_codes_, g, s);
}
Floats SuperBlock::level(Index column, int s) const {
  const Floats code = load_strip(codes_, column, s);
  return table_.empty() ? code + structure_.levels[0] : level_of(code, table_);
}

// Consecutive levels as codes from 0: scale * levels[0] is exact and part of the offset.
PanelGrid SuperBlock::grid() const {
  Matrix<float> scales = buffer(scale_codes_.rows()), offsets = buffer(scale_codes_.rows());
  const float lowest = table_.empty() ? structure_.levels[0] : 0.0f;
  for (Index g = 0; g < scales.rows(); ++g)
    for (int s = 0; s < kStrips; ++s) {
      store(scales.row(g) + s * kLanes, scale(g, s));
      store(offsets.row(g) + s * kLanes, scale(g, s) * lowest + offset(g, s));
    }
  return {std::move(scales), std::move(offsets), static_cast<int>(structure_.levels.size()) - 1,
          table_};
}

// Residuals after moves_ of the group whose columns begin at `begin`.
void SuperBlock::subtract_moves(const Curvature& curvature, Index begin) {
  if (!curvature.hessian.empty()) {
    sgemm(-1.0f, curvature.hessian.cols(begin, moves_.rows()), moves_, 1.0f, residual_);
    return;
  }
  float* residual = residual_.row(begin);
  for (Index i = 0; i < moves_.size(); ++i) residual[i] -= moves_.data()[i];
}

// curved_ = H directions_, inside the columns [begin, begin + count).
void SuperBlock::multiply(const Curvature& curvature, Index begin, Index count) {
  const auto directions = directions_.view().rows(begin, count);
  if (curvature.hessian.empty())
    std::copy_n(directions.data(), directions.size(), curved_.row(begin));
  else
    sgemm(1.0f, curvature.hessian.rows(begin, count).cols(begin, count), directions, 0.0f,
          curved_.view().rows(begin, count));
}

void SuperBlock::move_group(const Curvature& curvature, Index g, const PanelGrid& grid) {
  const Index width = structure_.group;
  const Index begin = g * width;
  const MovingColumns columns = {values_.view().rows(begin, width),
                                 codes_.view().rows(begin, width),
                                 residual_.view().rows(begin, width), moves_};
  MatrixView<const float> inside;
  if (!curvature.hessian.empty()) inside = curvature.hessian.rows(begin, width).cols(begin, width);
  for (Index i = 0; i < width; ++i) move_codes(columns, inside, i, g, grid);
  subtract_moves(curvature, begin);
}

void SuperBlock::set_values(Index g) {
  for (int s = 0; s < kStrips; ++s) {
    const Floats scale_g = scale(g, s), offset_g = offset(g, s);
    for (Index i = g * structure_.group; i < (g + 1) * structure_.group; ++i)
      store(values_.row(i) + s * kLanes, scale_g * level(i, s) + offset_g);
  }
}

}  // namespace calque::cpu
