#include "calque/forward/input_rounding.h"

#include <algorithm>
#include <cmath>
#include <span>

namespace calque::forward {
namespace {

float rounded(const InputGrid& grid, float value) {
  if (grid.number) return rounded_to(*grid.number, value);
  return std::clamp(std::nearbyint(value), -grid.largest(), grid.largest());
}

void round_values(const InputGrid& grid, float scale, std::span<float> values) {
  if (scale == 0) return;
  for (float& value : values) value = scale * rounded(grid, value / scale);
}

float dynamic_scale(const InputGrid& grid, std::span<const float> values) {
  float peak = 0;
  for (const float value : values) peak = std::max(peak, std::abs(value));
  if (grid.scale_of == InputGrid::Scale::kPower) return power_of_two_scale(*grid.number, peak);
  const float scale = peak / grid.largest();
  return grid.scale_of == InputGrid::Scale::kCoded ? fp8_scale(scale, grid.scale) : scale;
}

}  // namespace

void round_inputs(const InputGrid& grid, MatrixView<float> rows_TK) {
  const auto width = static_cast<std::size_t>(
      grid.has_groups() ? std::min(grid.group, rows_TK.cols()) : rows_TK.cols());
  for (Index t = 0; t < rows_TK.rows(); ++t) {
    const std::span<float> row = rows_TK.row_span(t);
    for (std::size_t k = 0; k < row.size(); k += width) {
      const std::span<float> values = row.subspan(k, std::min(width, row.size() - k));
      const bool calibrated = grid.scale_of == InputGrid::Scale::kTensor;
      round_values(grid, calibrated ? grid.scale : dynamic_scale(grid, values), values);
    }
  }
}

}  // namespace calque::forward
