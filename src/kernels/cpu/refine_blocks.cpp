#include "calque/kernels/refine_blocks.h"

#include <algorithm>
#include <span>
#include <utility>
#include <vector>

#include "calque/core/dtype.h"
#include "kernels/cpu/panel.h"
#include "kernels/cpu/sgemm.h"
#include "kernels/kernel_table.h"

namespace calque::cpu {
namespace {

// Some neighbouring columns of a panel, transposed, whose codes are about to move one after the
// other.
struct MovingColumns {
  MatrixView<float> values, codes;
  MatrixView<const float> residual;  // (weight - values) H before any of them moved
  MatrixView<float> moves;           // out: how far each value moved
};

// Moves the codes of column i to the nearest value of `grid` to the minimiser of the loss in that
// coordinate, in the rows where that lowers it; the columns before i have moved. `hessian` holds
// the columns' rows and columns of H; empty: H is the identity.
void move_codes(const MovingColumns& columns, MatrixView<const float> hessian, Index i, Index group,
                const PanelGrid& grid) {
  Column residual = load_column(columns.residual.row(i));
  const Index coupled = hessian.empty() ? 0 : i;
  for (Index k = 0; k < coupled; ++k) {
    const Floats coupling = broadcast(hessian(k, i));
    const float* moves = columns.moves.row(k);
    for (int s = 0; s < kStrips; ++s) residual[s] -= load(moves + s * kLanes) * coupling;
  }
  const float curvature = hessian.empty() ? 1.0f : hessian(i, i);
  for (int s = 0; s < kStrips; ++s) {
    float* value_at = columns.values.row(i) + s * kLanes;
    float* code_at = columns.codes.row(i) + s * kLanes;
    const Floats value = load(value_at);
    const auto [code, target] = grid.nearest(value + residual[s] / curvature, group, s);
    const Floats move = target - value;
    const auto better = 2.0f * move * residual[s] - move * move * curvature > Floats{};
    store(columns.moves.row(i) + s * kLanes, better ? move : Floats{});
    store(value_at, better ? target : value);
    store(code_at, better ? code : load(code_at));
  }
}

// One super-block of a panel's rows while it is refined (refine_blocks.h), transposed: row i of the
// first five is column i, row g of the next two group g.
class SuperBlock {
 public:
  // This belongs to the columns of a super-block, whatever the rows.
  struct Curvature {
    MatrixView<const float> hessian;  // its rows and columns of H; empty: H is the identity
    Matrix<float> group_sums;         // sums of H over the columns of two groups; only with minima
  };
  static Curvature curvature(const ggml::Structure& structure, MatrixView<const float> hessian_KK,
                             Index super);

  explicit SuperBlock(const ggml::Structure& structure);

  // The rows of a panel at its super-block `super`, with their values and residuals (E H there).
  struct Rows {
    ggml::Fields& fields;
    Index first, count, super;
    MatrixView<float> values_PS;
    MatrixView<const float> residual_PS;
  };
  void load_rows(const Rows& rows);
  void refine(const Curvature& curvature);
  void store_rows(const Rows& rows) const;

 private:
  // The gain of a move by a A + b B is 2 (a ra + b rb) - (a^2 aa + 2 a b ab + b^2 bb).
  struct Moments {
    Floats aa{}, ab{}, bb{}, ra{}, rb{};
    Floats gain(Floats a, Floats b) const;
    // These are the best move's; b is 0 without minima.
    Floats best_a(bool with_b) const;
    Floats best_b(Floats a) const;
  };

  PanelGrid grid() const;
  void move_group(const Curvature& curvature, Index g, const PanelGrid& grid);
  void choose_scale_codes(const Curvature& curvature, Index g);
  void choose_integers(const Moments& m, Index g, int s);
  void choose_scale(const Moments& m, Index g, int s);
  void refine_steps(const Curvature& curvature);
  void choose_steps(const Moments& m, int s);
  Moments moments_of_group(const Curvature& curvature, Index g, int s) const;
  Moments moments_of_steps(const Curvature& curvature, int s) const;
  void set_values(Index g);
  void multiply(const Curvature& curvature, Index begin, Index count);
  void subtract_moves(const Curvature& curvature, Index begin);

  Floats scale(Index g, int s) const;
  Floats offset(Index g, int s) const;
  Floats level(Index column, int s) const;

  const ggml::Structure& structure_;
  std::span<const float> table_;
  Matrix<float> values_, codes_, residual_, directions_, curved_;
  Matrix<float> scale_codes_, minimum_codes_;
  Matrix<float> steps_;  // the step, the minimum step
  Matrix<float> moves_;  // one group's
};

Matrix<float> buffer(Index rows) { return Matrix<float>::uninitialized(rows, kPanelRows); }

Matrix<float> sums_of_groups(MatrixView<const float> hessian, Index size, Index group) {
  Matrix<float> sums(size / group, size / group);
  for (Index i = 0; i < size; ++i) {
    if (hessian.empty()) sums(i / group, i / group) += 1.0f;
    for (Index j = 0; j < hessian.cols(); ++j) sums(i / group, j / group) += hessian(i, j);
  }
  return sums;
}

// Zero divides as infinity: what has no step does not move.
Floats divided(Floats v, Floats by) { return by == Floats{} ? Floats{} : v / by; }

// ---- A super-block: its rows, its codes

SuperBlock::Curvature SuperBlock::curvature(const ggml::Structure& structure,
                                            MatrixView<const float> hessian_KK, Index super) {
  const Index width = structure.super;
  Curvature result;
  if (!hessian_KK.empty())
    result.hessian = hessian_KK.rows(super * width, width).cols(super * width, width);
  if (structure.has_minima())
    result.group_sums = sums_of_groups(result.hessian, width, structure.group);
  return result;
}

SuperBlock::SuperBlock(const ggml::Structure& structure)
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
  load_panel(here(rows.fields.codes_NK, columns), 0.0f, codes_);
  load_panel(here(rows.fields.scale_codes_NG, groups), 0.0f, scale_codes_);
  load_panel(here(rows.fields.minimum_codes_NG, groups), 0.0f, minimum_codes_);
  load_panel(here(rows.fields.steps_NS, 1), 0.0f, steps_.view().rows(0, 1));
  load_panel(here(rows.fields.minimum_steps_NS, 1), 0.0f, steps_.view().rows(1, 1));
  load_panel(rows.values_PS, 0.0f, values_);
  load_panel(rows.residual_PS, 0.0f, residual_);
}

void SuperBlock::store_rows(const Rows& rows) const {
  const Index columns = structure_.super;
  const Index groups = columns / structure_.group;
  const auto here = [&](auto& matrix, Index width) {
    return matrix.view().rows(rows.first, rows.count).cols(rows.super * width, width);
  };
  store_panel(codes_, here(rows.fields.codes_NK, columns));
  store_panel(scale_codes_, here(rows.fields.scale_codes_NG, groups));
  store_panel(minimum_codes_, here(rows.fields.minimum_codes_NG, groups));
  store_panel(steps_.view().rows(0, 1), here(rows.fields.steps_NS, 1));
  store_panel(steps_.view().rows(1, 1), here(rows.fields.minimum_steps_NS, 1));
  store_panel(values_, rows.values_PS);
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

// ---- Scale codes and steps, each the best along what the codes allow

Floats SuperBlock::Moments::gain(Floats a, Floats b) const {
  return 2.0f * (a * ra + b * rb) - (a * a * aa + 2.0f * a * b * ab + b * b * bb);
}

// The determinant of two directions that are nearly one is noise: then a alone.
Floats SuperBlock::Moments::best_a(bool with_b) const {
  const Floats alone = divided(ra, aa);
  if (!with_b) return alone;
  const Floats determinant = aa * bb - ab * ab;
  return determinant > 1e-5f * aa * bb ? (ra * bb - rb * ab) / determinant : alone;
}
Floats SuperBlock::Moments::best_b(Floats a) const { return divided(rb - a * ab, bb); }

void SuperBlock::choose_scale_codes(const Curvature& curvature, Index g) {
  const Index width = structure_.group;
  const Index begin = g * width;
  for (Index i = begin; i < begin + width; ++i)
    for (int s = 0; s < kStrips; ++s) store(directions_.row(i) + s * kLanes, level(i, s));
  multiply(curvature, begin, width);
  for (int s = 0; s < kStrips; ++s) {
    if (structure_.has_minima())
      choose_integers(moments_of_group(curvature, g, s), g, s);
    else
      choose_scale(moments_of_group(curvature, g, s), g, s);
  }
  std::copy_n(values_.row(begin), moves_.size(), moves_.data());
  set_values(g);
  for (Index i = 0; i < moves_.size(); ++i)
    moves_.data()[i] = values_.row(begin)[i] - moves_.data()[i];
  subtract_moves(curvature, begin);
}

SuperBlock::Moments SuperBlock::moments_of_group(const Curvature& curvature, Index g, int s) const {
  Moments m;
  for (Index i = g * structure_.group; i < (g + 1) * structure_.group; ++i) {
    const Floats a = load_strip(directions_, i, s), h = load_strip(curved_, i, s);
    const Floats r = load_strip(residual_, i, s);
    m.aa += a * h;
    m.ab += h;
    m.ra += a * r;
    m.rb += r;
  }
  if (structure_.has_minima()) m.bb = broadcast(curvature.group_sums(g, g));
  return m;
}

// The scale codes within two of the best real one, each with the minimum codes within one of the
// best real one for it: rounding both at once misses pairs, as the directions are far from
// orthogonal.
void SuperBlock::choose_integers(const Moments& m, Index g, int s) {
  const Floats step = load_strip(steps_, 0, s), minimum_step = load_strip(steps_, 1, s);
  const Floats old_scale = load_strip(scale_codes_, g, s);
  const Floats old_minimum = load_strip(minimum_codes_, g, s);
  const Floats lowest = broadcast(static_cast<float>(structure_.lowest_scale));
  const Floats highest = broadcast(static_cast<float>(structure_.highest_scale));
  const Floats highest_minimum = broadcast(static_cast<float>(structure_.highest_minimum));
  const Floats middle = nearest_code(old_scale + divided(m.best_a(true), step), lowest, highest);
  Floats best{}, best_scale = old_scale, best_minimum = old_minimum;
  for (int x = -2; x <= 2; ++x) {
    const Floats scale_code = at_most(at_least(middle + static_cast<float>(x), lowest), highest);
    const Floats a = (scale_code - old_scale) * step;
    const Floats real = old_minimum - divided(m.best_b(a), minimum_step);
    const Floats near = nearest_code(real, Floats{}, highest_minimum);
    for (int y = -1; y <= 1; ++y) {
      const Floats code =
          at_most(at_least(near + static_cast<float>(y), Floats{}), highest_minimum);
      const Floats gain = m.gain(a, (old_minimum - code) * minimum_step);
      const auto better = gain > best;
      best = better ? gain : best;
      best_scale = better ? scale_code : best_scale;
      best_minimum = better ? code : best_minimum;
    }
  }
  store(scale_codes_.row(g) + s * kLanes, best_scale);
  store(minimum_codes_.row(g) + s * kLanes, best_minimum);
}

// The loss along one direction is a parabola: the integer nearest to its minimum is the best.
void SuperBlock::choose_scale(const Moments& m, Index g, int s) {
  const Floats step = load_strip(steps_, 0, s);
  const Floats old = load_strip(scale_codes_, g, s);
  const Floats code = nearest_code(old + divided(m.best_a(false), step),
                                   broadcast(static_cast<float>(structure_.lowest_scale)),
                                   broadcast(static_cast<float>(structure_.highest_scale)));
  const auto better = m.gain((code - old) * step, Floats{}) > Floats{};
  store(scale_codes_.row(g) + s * kLanes, better ? code : old);
}

SuperBlock::Moments SuperBlock::moments_of_steps(const Curvature& curvature, int s) const {
  Moments m;
  for (Index g = 0; g < scale_codes_.rows(); ++g) {
    const Floats b = -load_strip(minimum_codes_, g, s);
    Floats curved_sum{}, residual_sum{};
    for (Index i = g * structure_.group; i < (g + 1) * structure_.group; ++i) {
      const Floats a = load_strip(directions_, i, s), h = load_strip(curved_, i, s);
      const Floats r = load_strip(residual_, i, s);
      m.aa += a * h;
      m.ra += a * r;
      curved_sum += h;
      residual_sum += r;
    }
    m.ab += b * curved_sum;
    m.rb += b * residual_sum;
    if (!structure_.has_minima()) continue;
    for (Index other = 0; other < scale_codes_.rows(); ++other)
      m.bb -= b * load_strip(minimum_codes_, other, s) * curvature.group_sums(g, other);
  }
  return m;
}

void SuperBlock::refine_steps(const Curvature& curvature) {
  for (Index g = 0; g < scale_codes_.rows(); ++g)
    for (Index i = g * structure_.group; i < (g + 1) * structure_.group; ++i)
      for (int s = 0; s < kStrips; ++s)
        store(directions_.row(i) + s * kLanes, load_strip(scale_codes_, g, s) * level(i, s));
  multiply(curvature, 0, structure_.super);
  for (int s = 0; s < kStrips; ++s) choose_steps(moments_of_steps(curvature, s), s);
  for (Index g = 0; g < scale_codes_.rows(); ++g) set_values(g);
}

void SuperBlock::choose_steps(const Moments& m, int s) {
  const Floats step = load_strip(steps_, 0, s), minimum_step = load_strip(steps_, 1, s);
  const Floats a = m.best_a(structure_.has_minima());
  const Floats b = structure_.has_minima() ? m.best_b(a) : Floats{};
  Floats new_step = step, new_minimum_step = minimum_step;
  for (int lane = 0; lane < kLanes; ++lane) {
    new_step[lane] = rounded_to_half(step[lane] + a[lane]);
    const float rounded = rounded_to_half(minimum_step[lane] + b[lane]);
    if (rounded >= 0) new_minimum_step[lane] = rounded;
  }
  const auto better = m.gain(new_step - step, new_minimum_step - minimum_step) > Floats{};
  store(steps_.row(0) + s * kLanes, better ? new_step : step);
  store(steps_.row(1) + s * kLanes, better ? new_minimum_step : minimum_step);
}

// ---- A panel of rows, super-block after super-block

// The passes over the rows [first, first + count). Invariant between super-blocks: values_PK_ are
// the dequantized codes and residual_PK_ = (weight - values) H.
class Panel {
 public:
  Panel(const RefineBlocks& task, std::span<const SuperBlock::Curvature> curvature_S, Index first,
        Index count)
      : task_(task),
        curvature_S_(curvature_S),
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
    const ggml::Fields& fields = task_.fields;
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
    block_.refine(curvature_S_[static_cast<std::size_t>(s)]);
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

  const RefineBlocks& task_;
  std::span<const SuperBlock::Curvature> curvature_S_;
  Index first_;
  MatrixView<const float> weight_PK_;
  Matrix<float> values_PK_, residual_PK_;
  Matrix<float> moves_PS_;  // the current super-block's: values before it, then how far they moved
  SuperBlock block_;
};

}  // namespace

void refine_blocks(const RefineBlocks& task, const Exec::Backend& backend) {
  const Index supers = task.weight_NK.cols() / task.structure.super;
  std::vector<SuperBlock::Curvature> curvature_S(static_cast<std::size_t>(supers));
  backend.workers.for_each(supers, [&](Index s) {
    curvature_S[static_cast<std::size_t>(s)] =
        SuperBlock::curvature(task.structure, task.hessian_KK, s);
  });
  const Index rows = task.weight_NK.rows();
  backend.workers.for_each((rows + kPanelRows - 1) / kPanelRows, [&](Index p) {
    const Index first = p * kPanelRows;
    const Index count = std::min(kPanelRows, rows - first);
    Panel(task, curvature_S, first, count)
        .run(task.losses_N.subspan(static_cast<std::size_t>(first),
                                   static_cast<std::size_t>(count)));
  });
}

}  // namespace calque::cpu
