#include "calque/kernels/refine_grid.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <numeric>
#include <optional>
#include <span>
#include <vector>

#include "kernels/cpu/float_codes.h"
#include "kernels/cpu/lanes.h"
#include "kernels/cpu/sgemm.h"
#include "kernels/grid_storage.h"
#include "kernels/kernel_table.h"

namespace calque::cpu {
namespace {

constexpr Index kBlockColumns = 128;

// Rows that go through the passes together: few enough that threads finish together, and enough not
// to wait for a Hessian that comes from memory.
Index panel_rows(Index columns) {
  constexpr Index kNarrow = 2048;
  return columns <= kNarrow ? 32 : 64;
}

// The grid of one row's group.
class RowGrid {
 public:
  RowGrid(float scale, float offset, int max_code, const FloatCodes* numbers)
      : numbers_(numbers),
        scale_(broadcast(scale)),
        offset_(broadcast(offset)),
        divisor_(broadcast(scale == 0.0f ? __builtin_inff() : scale)),
        highest_(broadcast(static_cast<float>(max_code))) {}

  struct Rounded {
    Floats code, value;
  };
  Rounded nearest(Floats weight) const {
    if (numbers_ != nullptr) {
      const FloatCodes::Rounded rounded = numbers_->nearest(weight / divisor_);
      return {rounded.code, scale_ * rounded.level};
    }
    const Floats code = nearest_code((weight - offset_) / divisor_, Floats{}, highest_);
    return {code, scale_ * code + offset_};
  }

 private:
  const FloatCodes* numbers_;  // null: codes are integers
  Floats scale_, offset_, divisor_, highest_;
};

// Neighbouring columns of one row, `values` being what `codes` stand for and `residual` =
// (weight - values) H; `hessian_BB` is H's block of these columns.
struct RowBlock {
  float* values;
  std::uint8_t* codes;
  float* residual;
  MatrixView<const float> hessian_BB;
  const float* curvature;  // its diagonal
};

// Moves the codes of columns [begin, end) of the block, all of one group, to the nearest value of
// `grid` to the minimiser of the loss in that coordinate, where that lowers it, one after the other
// from left to right; `residual` follows in the whole block.
//
// Few codes move (1 to 6 % after GPTQ), so sixteen columns are looked at together, and again from
// the first that moves.
class RowDescent {
 public:
  RowDescent(const RowBlock& block, const RowGrid& grid) : block_(block), grid_(grid) {}

  void run(Index begin, Index end) const {
    for (; begin < end; begin += kLanes) move_few(begin, std::min<Index>(kLanes, end - begin));
  }

 private:
  void move_few(Index begin, Index count) const {
    const Floats curvature = load_part(block_.curvature + begin, count, 1.0f);
    for (unsigned waiting = (1u << count) - 1; waiting != 0;) {
      const Floats value = load_part(block_.values + begin, count, 0.0f);
      const Floats residual = load_part(block_.residual + begin, count, 0.0f);
      const auto [code, target] = grid_.nearest(value + residual / curvature);
      const Floats move = target - value;
      waiting &= positive_lanes(2.0f * move * residual - move * move * curvature);
      if (waiting == 0) return;
      const int lane = __builtin_ctz(waiting);
      take(begin + lane, code[lane], target[lane], move[lane]);
      waiting = (~0u << lane << 1) & ((1u << count) - 1);
    }
  }

  void take(Index k, float code, float value, float move) const {
    block_.codes[k] = static_cast<std::uint8_t>(static_cast<int>(code));
    block_.values[k] = value;
    const float* coupling = block_.hessian_BB.row(k);
    for (Index j = 0; j < block_.hessian_BB.cols(); ++j) block_.residual[j] -= move * coupling[j];
  }

  const RowBlock& block_;
  const RowGrid& grid_;
};

struct Refinement : RefineGrid {
  std::vector<std::int32_t> group_of_column_K;
  std::vector<float> curvature_K;  // diagonal of the Hessian
  std::optional<FloatCodes> numbers;
};

// The numbers that codes stand for. Integers are converted: reading them from a table made the
// refinement of 576 x 576 weights 8 % slower.
struct Levels {
  const float* by_code;  // null: the codes themselves
  explicit Levels(const RefineOptions& options)
      : by_code(options.number ? values_of(*options.number).data() : nullptr) {}
  float operator()(std::uint8_t code) const {
    return by_code == nullptr ? static_cast<float>(code) : by_code[code];
  }
};

// The passes over the rows [first, first + count). Invariant between steps: values_PK_ are the
// dequantized codes and residual_PK_ = (weight - values) H, the negative gradient of half the loss.
class Panel {
 public:
  Panel(const Refinement& task, Index first, Index count)
      : task_(task),
        rows_(count),
        columns_(task.weight_NK.cols()),
        weight_PK_(task.weight_NK.rows(first, count)),
        scales_PG_(task.scales_NG.rows(first, count)),
        offsets_PG_(task.offsets_NG.rows(first, count)),
        codes_PK_(task.codes_NK.rows(first, count)),
        values_PK_(Matrix<float>::uninitialized(count, columns_)),
        residual_PK_(Matrix<float>::uninitialized(count, columns_)),
        moved_PK_(Matrix<float>::uninitialized(count, columns_)) {}

  double run() {
    dequantize();
    start_residual();
    for (int pass = 0; pass < task_.options.passes; ++pass) run_pass();
    return loss();
  }

 private:
  void dequantize() {
    const Levels level(task_.options);
    for (Index r = 0; r < rows_; ++r)
      for (Index k = 0; k < columns_; ++k) {
        const Index g = task_.group_of_column_K[k];
        values_PK_(r, k) = scales_PG_(r, g) * level(codes_PK_(r, k)) + offsets_PG_(r, g);
      }
  }

  void start_residual() {
    for (Index r = 0; r < rows_; ++r)
      for (Index k = 0; k < columns_; ++k) moved_PK_(r, k) = weight_PK_(r, k) - values_PK_(r, k);
    sgemm(1.0f, moved_PK_, task_.hessian_KK, 0.0f, residual_PK_);
  }

  double loss() const {
    double total = 0;
    for (Index r = 0; r < rows_; ++r)
      for (Index k = 0; k < columns_; ++k)
        total += static_cast<double>(weight_PK_(r, k) - values_PK_(r, k)) * residual_PK_(r, k);
    return total;
  }

  // A unit is as many whole groups as fill a block, or one large group. While it is worked on, the
  // residual is kept up to date inside it only; the rest follows in one product.
  void run_pass() {
    const Index group = task_.group_size;
    const Index unit = std::max(group, kBlockColumns / group * group);
    for (Index begin = 0; begin < columns_; begin += unit) {
      const Index end = std::min(columns_, begin + unit);
      remember_values(begin, end);
      for (Index b = begin; b < end; b += kBlockColumns)
        move_codes(b, std::min(end, b + kBlockColumns), begin, end);
      if (task_.options.moves_scales)
        for (Index g = begin / group; g < end / group; ++g) refit(g, begin, end);
      for (Index r = 0; r < rows_; ++r)
        std::transform(values_PK_.row(r) + begin, values_PK_.row(r) + end, moved_PK_.row(r) + begin,
                       moved_PK_.row(r) + begin, std::minus<>());
      update_residual(begin, end, 0, begin);
      update_residual(begin, end, end, columns_);
    }
  }

  void remember_values(Index begin, Index end) {
    for (Index r = 0; r < rows_; ++r)
      std::copy(values_PK_.row(r) + begin, values_PK_.row(r) + end, moved_PK_.row(r) + begin);
  }

  // residual[:, first..last) -= moved[:, begin..end) H[begin..end, first..last).
  void update_residual(Index begin, Index end, Index first, Index last) {
    subtract(moved_PK_.view().cols(begin, end - begin), begin, first, last);
  }
  void subtract(MatrixView<const float> moves, Index begin, Index first, Index last) {
    sgemm(-1.0f, moves, task_.hessian_KK.rows(begin, moves.cols()).cols(first, last - first), 1.0f,
          residual_PK_.view().cols(first, last - first));
  }

  // Coordinate descent over the columns [begin, end) of the unit [unit_begin, unit_end).
  void move_codes(Index begin, Index end, Index unit_begin, Index unit_end) {
    for (Index r = 0; r < rows_; ++r) move_row(r, begin, end);
    if (begin == unit_begin && end == unit_end) return;
    Matrix<float> moves_PB = Matrix<float>::uninitialized(rows_, end - begin);
    for (Index r = 0; r < rows_; ++r)
      std::transform(values_PK_.row(r) + begin, values_PK_.row(r) + end, moved_PK_.row(r) + begin,
                     moves_PB.row(r), std::minus<>());
    subtract(moves_PB, begin, unit_begin, begin);
    subtract(moves_PB, begin, end, unit_end);
  }

  void move_row(Index r, Index begin, Index end) {
    const RowBlock block = {values_PK_.row(r) + begin, codes_PK_.row(r) + begin,
                            residual_PK_.row(r) + begin,
                            task_.hessian_KK.rows(begin, end - begin).cols(begin, end - begin),
                            task_.curvature_K.data() + begin};
    for (Index k = begin; k < end;) {
      const Index g = k / task_.group_size;
      const Index group_end = std::min(end, (g + 1) * task_.group_size);
      const RowGrid grid(scales_PG_(r, g), offsets_PG_(r, g), task_.options.max_code,
                         task_.numbers ? &*task_.numbers : nullptr);
      RowDescent(block, grid).run(k - begin, group_end - begin);
      k = group_end;
    }
  }

  // Best scale of group g for its codes, then (kMinimum) best offset.
  void refit(Index g, Index unit_begin, Index unit_end) {
    const Index begin = g * task_.group_size;
    const Index width = task_.group_size;
    Matrix<float> direction_PB = Matrix<float>::uninitialized(rows_, width);
    const Levels level(task_.options);
    for (Index r = 0; r < rows_; ++r) {
      const float zero = zero_point(r, g);
      std::transform(codes_PK_.row(r) + begin, codes_PK_.row(r) + begin + width,
                     direction_PB.row(r),
                     [level, zero](std::uint8_t code) { return level(code) - zero; });
    }
    move_along(direction_PB, g, unit_begin, unit_end,
               [&](Index r, float step) { set_scale(r, g, scales_PG_(r, g) + step); });
    if (task_.options.offset_kind != OffsetKind::kMinimum) return;
    std::fill_n(direction_PB.data(), direction_PB.size(), 1.0f);
    move_along(direction_PB, g, unit_begin, unit_end, [&](Index r, float step) {
      offsets_PG_(r, g) = stored(offsets_PG_(r, g) + step, task_.options.precision);
    });
  }

  float zero_point(Index r, Index g) const {
    if (task_.options.offset_kind == OffsetKind::kMinimum) return 0.0f;
    const float scale = scales_PG_(r, g);
    return scale == 0.0f ? 0.0f : std::rint(-offsets_PG_(r, g) / scale);
  }

  void set_scale(Index r, Index g, float scale) {
    // Crossing zero would put every code on the wrong side.
    if (scale * scales_PG_(r, g) <= 0.0f) return;
    const float zero = zero_point(r, g);
    scales_PG_(r, g) = stored_scale(scale, task_.options.precision, task_.options.divisor);
    if (task_.options.offset_kind != OffsetKind::kMinimum)
      offsets_PG_(r, g) = -scales_PG_(r, g) * zero;
  }

  // Moves every row's values of group g along its direction d by (d . R) / (d . H d), through
  // `set`, which rounds to what can be stored; undone where that does not lower the loss.
  template <typename Set>
  void move_along(const Matrix<float>& direction_PB, Index g, Index unit_begin, Index unit_end,
                  const Set& set) {
    const Index begin = g * task_.group_size;
    const Index width = task_.group_size;
    Matrix<float> curved_PB = Matrix<float>::uninitialized(rows_, width);
    sgemm(1.0f, direction_PB, task_.hessian_KK.rows(begin, width).cols(begin, width), 0.0f,
          curved_PB);
    Matrix<float> moves_PB(rows_, width);
    for (Index r = 0; r < rows_; ++r) {
      const double slope = dot_in_double(direction_PB.row(r), residual_PK_.row(r) + begin, width);
      const double curvature = dot_in_double(direction_PB.row(r), curved_PB.row(r), width);
      if (!(curvature > 0)) continue;
      const float old_scale = scales_PG_(r, g);
      const float old_offset = offsets_PG_(r, g);
      set(r, static_cast<float>(slope / curvature));
      const double step = old_scale != scales_PG_(r, g)
                              ? static_cast<double>(scales_PG_(r, g)) - old_scale
                              : static_cast<double>(offsets_PG_(r, g)) - old_offset;
      if (2 * step * slope - step * step * curvature > 0) {
        take_move(r, g, moves_PB.row(r));
      } else {
        scales_PG_(r, g) = old_scale;
        offsets_PG_(r, g) = old_offset;
      }
    }
    subtract(moves_PB, begin, unit_begin, unit_end);
  }

  void take_move(Index r, Index g, float* moves) {
    const Index begin = g * task_.group_size;
    const Index width = task_.group_size;
    const float scale = scales_PG_(r, g), offset = offsets_PG_(r, g);
    const std::uint8_t* codes = codes_PK_.row(r) + begin;
    float* values = values_PK_.row(r) + begin;
    const Levels level(task_.options);
    for (Index k = 0; k < width; ++k) {
      const float moved = scale * level(codes[k]) + offset;
      moves[k] = moved - values[k];
      values[k] = moved;
    }
  }

  const Refinement& task_;
  Index rows_, columns_;
  MatrixView<const float> weight_PK_;
  MatrixView<float> scales_PG_, offsets_PG_;
  MatrixView<std::uint8_t> codes_PK_;
  Matrix<float> values_PK_, residual_PK_;
  Matrix<float> moved_PK_;  // the current unit's: values before it, then how far they moved
};

}  // namespace

double refine_grid(const RefineGrid& refined, const Exec::Backend& backend) {
  Refinement task = {refined, {}, {}, {}};
  if (refined.options.number) task.numbers.emplace(*refined.options.number);
  const Index rows = task.weight_NK.rows();
  const Index columns = task.weight_NK.cols();
  for (Index k = 0; k < columns; ++k) {
    task.group_of_column_K.push_back(static_cast<std::int32_t>(k / task.group_size));
    task.curvature_K.push_back(task.hessian_KK(k, k));
  }
  const Index panel = panel_rows(columns);
  std::vector<double> losses(static_cast<std::size_t>((rows + panel - 1) / panel));
  backend.workers.for_each(static_cast<Index>(losses.size()), [&](Index p) {
    const Index first = p * panel;
    losses[static_cast<std::size_t>(p)] = Panel(task, first, std::min(panel, rows - first)).run();
  });
  return std::accumulate(losses.begin(), losses.end(), 0.0);
}

}  // namespace calque::cpu
