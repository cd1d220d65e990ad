#pragma once

#include <algorithm>
#include <array>
#include <optional>
#include <span>
#include <type_traits>
#include <utility>

#include "calque/core/matrix.h"
#include "calque/kernels/panels.h"
#include "kernels/cpu/float_codes.h"
#include "kernels/cpu/lanes.h"
#include "kernels/cpu/transpose.h"

namespace calque::cpu {

// Panels of rows (kernels/panels.h) are transposed, so that the rows of one column are neighbours:
// every operation of a column loop is a vector operation over rows.
constexpr int kStrips = kPanelRows / kLanes;

// One column of a panel.
using Column = std::array<Floats, kStrips>;

inline Column load_column(const float* p) {
  Column column;
  for (int s = 0; s < kStrips; ++s) column[s] = load(p + s * kLanes);
  return column;
}
inline void store_column(float* p, const Column& column) {
  for (int s = 0; s < kStrips; ++s) store(p + s * kLanes, column[s]);
}

// The rows of strip `s` in one column of a transposed matrix.
inline Floats load_strip(const Matrix<float>& transposed, Index column, int s) {
  return load(transposed.row(column) + s * kLanes);
}

// `transposed` [cols, kPanelRows] = source^T; the missing rows of a last panel become `filler`.
template <typename T>
void load_panel(MatrixView<T> source, float filler, MatrixView<float> transposed) {
  transpose(MatrixView<const T>(source), transposed.cols(0, source.rows()));
  for (Index c = 0; c < source.cols(); ++c)
    std::fill(transposed.row(c) + source.rows(), transposed.row(c) + kPanelRows, filler);
}

inline Matrix<float> loaded_panel(MatrixView<const float> source, float filler) {
  auto result = Matrix<float>::uninitialized(source.cols(), kPanelRows);
  load_panel(source, filler, result.view());
  return result;
}

// target [rows, cols] = transposed^T, element by element converted to T.
template <typename T>
void store_panel(MatrixView<const float> transposed, MatrixView<T> target) {
  const auto used = transposed.rows(0, target.cols()).cols(0, target.rows());
  if constexpr (std::is_same_v<T, float>)
    transpose(used, target);
  else
    transpose_to_integers(used, target);
}

// The table's level of each code.
inline Floats level_of(Floats code, std::span<const float> table) {
  Floats level = broadcast(table[0]);
  for (std::size_t i = 1; i < table.size(); ++i)
    level = code >= static_cast<float>(i) ? broadcast(table[i]) : level;
  return level;
}

// The grids of a panel's rows, transposed: row g holds group g. Codes stand for themselves or, with
// a table of rising levels, for table[code], or for the number of a small type with these bits. A
// zero scale divides as infinity, so its code is that of 0 or of the level nearest to it.
class PanelGrid {
 public:
  PanelGrid(MatrixView<const float> scales_PG, MatrixView<const float> offsets_PG, int max_code,
            std::span<const float> table = {}, std::optional<SmallFloat> number = std::nullopt);
  // The grids given here are transposed already.
  PanelGrid(Matrix<float> scales, Matrix<float> offsets, int max_code, std::span<const float> table,
            std::optional<SmallFloat> number = std::nullopt);

  struct Rounded {
    Floats code, value;
  };
  // The nearest code of `weight` (rows of strip s) on the grid of `group`, and its value.
  Rounded nearest(Floats weight, Index group, int s) const {
    const Index at = s * kLanes;
    const Floats offset = load(offsets_.row(group) + at);
    const Floats position = (weight - offset) / load(divisors_.row(group) + at);
    const Floats scale = load(scales_.row(group) + at);
    if (!table_.empty()) return nearest_level(position, scale, offset);
    if (numbers_) {
      const FloatCodes::Rounded rounded = numbers_->nearest(position);
      return {rounded.code, scale * rounded.level + offset};
    }
    const Floats code = nearest_code(position, Floats{}, broadcast(max_code_));
    return {code, scale * code + offset};
  }

 private:
  // In the middle between two levels the upper one wins.
  Rounded nearest_level(Floats position, Floats scale, Floats offset) const {
    Floats code{};
    Floats level = broadcast(table_[0]);
    for (std::size_t i = 1; i < table_.size(); ++i) {
      const auto above = position >= 0.5f * (table_[i - 1] + table_[i]);
      code = above ? broadcast(static_cast<float>(i)) : code;
      level = above ? broadcast(table_[i]) : level;
    }
    return {code, scale * level + offset};
  }

  Matrix<float> scales_, offsets_, divisors_;
  float max_code_;
  std::span<const float> table_;
  std::optional<FloatCodes> numbers_;
};

inline PanelGrid::PanelGrid(MatrixView<const float> scales_PG, MatrixView<const float> offsets_PG,
                            int max_code, std::span<const float> table,
                            std::optional<SmallFloat> number)
    : PanelGrid(loaded_panel(scales_PG, 1.0f), loaded_panel(offsets_PG, 0.0f), max_code, table,
                number) {}

inline PanelGrid::PanelGrid(Matrix<float> scales, Matrix<float> offsets, int max_code,
                            std::span<const float> table, std::optional<SmallFloat> number)
    : scales_(std::move(scales)),
      offsets_(std::move(offsets)),
      divisors_(Matrix<float>::uninitialized(scales_.rows(), kPanelRows)),
      max_code_(static_cast<float>(max_code)),
      table_(table) {
  if (number) numbers_.emplace(*number);
  for (Index i = 0; i < scales_.size(); ++i) {
    const float scale = scales_.data()[i];
    divisors_.data()[i] = scale == 0.0f ? __builtin_inff() : scale;
  }
}

}  // namespace calque::cpu
