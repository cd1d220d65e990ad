#include "quant/mlx_rounding.h"

#include <algorithm>
#include <cmath>

#include "calque/core/dtype.h"
#include "calque/kernels/round_to_grid.h"
#include "quant/weights.h"

namespace calque::quant {
namespace {

struct ScaleAndOffset {
  float scale, offset;
};

ScaleAndOffset chosen(std::span<const float> weights, int max_code) {
  constexpr float kSmallestStep = 1e-7f;
  const auto [low, high] = std::ranges::minmax(weights);
  const bool negative = std::abs(low) > std::abs(high);
  const float largest = negative ? low : high;
  const float step = std::max((high - low) / static_cast<float>(max_code), kSmallestStep);
  const float signed_step = negative ? step : -step;
  const float steps = std::rint(largest / signed_step);
  if (steps == 0.0f) return {signed_step, 0.0f};
  return {largest / steps, largest};
}

// Unlike stored scales elsewhere these may be denormal.
float stored(float value, ScalePrecision precision) {
  if (precision == ScalePrecision::kF16) return to_float(to_half(value));
  return precision == ScalePrecision::kBF16 ? to_float(to_bfloat16(value)) : value;
}

}  // namespace

QuantizedMatrix round_as_mlx(MatrixView<const float> weight_NK, const Grid& grid,
                             const Exec& exec) {
  const Index N = weight_NK.rows(), K = weight_NK.cols();
  const Index size = grid.group_size_for(K);
  QuantizedMatrix q;
  q.grid = grid;
  GroupCodes& groups = q.groups();
  groups.codes_NK = Matrix<std::uint8_t>(N, K);
  groups.scales_NG = Matrix<float>(N, grid.groups(K));
  groups.offsets_NG = Matrix<float>(N, grid.groups(K));
  for (Index n = 0; n < N; ++n)
    for (Index g = 0; g < grid.groups(K); ++g) {
      const auto [scale, offset] =
          chosen({weight_NK.row(n) + g * size, static_cast<std::size_t>(size)}, grid.max_code());
      groups.scales_NG(n, g) = scale;
      groups.offsets_NG(n, g) = offset;
    }
  round_to_grid(weight_NK, view_of(q, consecutive_groups(K, size)), groups.codes_NK, exec);
  for (Matrix<float>* values : {&groups.scales_NG, &groups.offsets_NG})
    std::transform(values->data(), values->data() + values->size(), values->data(),
                   [&](float value) { return stored(value, grid.precision); });
  return q;
}

}  // namespace calque::quant
