#include "quant/weights.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "calque/core/error.h"

namespace calque::quant {

void expect_finite(MatrixView<const float> weight_NK) {
  for (Index n = 0; n < weight_NK.rows(); ++n) {
    const float* row = weight_NK.row(n);
    // 0 * w is 0 for finite w and NaN otherwise; the sum vectorizes where isfinite does not.
    bool finite = true;
    for (Index k = 0; k < weight_NK.cols(); ++k) finite &= row[k] * 0.0f == 0.0f;
    if (finite) continue;
    for (Index k = 0; k < weight_NK.cols(); ++k)
      if (!std::isfinite(row[k]))
        throw Error(ErrorKind::kNumerical, "",
                    fmt::format("weight at row {}, column {} is {}; the checkpoint is damaged or "
                                "was saved after a diverged training, nothing can be rounded to it",
                                n, k, row[k]));
  }
}

void expect_fits(MatrixView<const float> weight_NK, const Grid& grid) {
  if (weight_NK.cols() > 0 && grid.divides(weight_NK.cols())) return;
  throw Error(ErrorKind::kInternal, "",
              fmt::format("group size {} does not divide the {} inputs of the matrix",
                          grid.group_size, weight_NK.cols()));
}

std::vector<float> channel_importance(const calib::InputStats& stats, double damp) {
  std::vector<float> importance_K = stats.mean_square_K();
  if (importance_K.empty()) return importance_K;
  const double mean = std::accumulate(importance_K.begin(), importance_K.end(), 0.0) /
                      static_cast<double>(importance_K.size());
  if (!std::isfinite(mean) || mean <= 0) return {};
  // Relative to the mean: only ratios matter, and they stay in the middle of fp32's range.
  for (float& importance : importance_K) importance = static_cast<float>(importance / mean + damp);
  return importance_K;
}

Matrix<float> symmetric_mean(const calib::InputStats& stats) {
  constexpr Index kTile = 32;  // keeps the columns that are read in cache
  const Index size = stats.features();
  const float scale = 1.0f / static_cast<float>(stats.tokens);
  auto mean_KK = Matrix<float>::uninitialized(size, size);
  for (Index i = 0; i < size; ++i)
    for (Index j = i; j < size; ++j) mean_KK(i, j) = scale * stats.gram_KK(i, j);
  for (Index row = 0; row < size; row += kTile)
    for (Index col = 0; col <= row; col += kTile)
      for (Index i = row; i < std::min(size, row + kTile); ++i)
        for (Index j = col; j < std::min(i, col + kTile); ++j) mean_KK(i, j) = mean_KK(j, i);
  return mean_KK;
}

QuantizedMatrix start_on_grid(MatrixView<const float> weight_NK, const Grid& grid, ScaleRule rule,
                              const ScaleGuide& guide, const Exec& exec) {
  const Index groups = grid.groups(weight_NK.cols());
  QuantizedMatrix q;
  q.grid = grid;
  q.codes_NK = Matrix<std::uint8_t>(weight_NK.rows(), weight_NK.cols());
  q.scales_NG = Matrix<float>(weight_NK.rows(), groups);
  q.offsets_NG = Matrix<float>(weight_NK.rows(), groups);
  const ScaleSearchOptions options = {.bits = grid.bits,
                                      .offset_kind = grid.offset_kind,
                                      .precision = grid.precision,
                                      .min_zero = grid.min_zero,
                                      .rule = rule};
  const Index group_size = grid.group_size_for(weight_NK.cols());
  if (rule == ScaleRule::kBlockSearch && !guide.hessian_KK.empty())
    block_scale_search(weight_NK, guide.hessian_KK, group_size, options, q.scales_NG, q.offsets_NG,
                       exec);
  else
    scale_search(weight_NK, guide.importance_K, group_size, options, q.scales_NG, q.offsets_NG,
                 exec);
  return q;
}

Matrix<float> difference(MatrixView<const float> a, MatrixView<const float> b) {
  auto result = Matrix<float>::uninitialized(a.rows(), a.cols());
  for (Index r = 0; r < a.rows(); ++r) {
    const float* left = a.row(r);
    const float* right = b.row(r);
    float* out = result.row(r);
    for (Index c = 0; c < a.cols(); ++c) out[c] = left[c] - right[c];
  }
  return result;
}

double sum_of_squares(MatrixView<const float> values) {
  double total = 0;
  for (Index r = 0; r < values.rows(); ++r) {
    const float* row = values.row(r);
    for (Index c = 0; c < values.cols(); ++c) total += static_cast<double>(row[c]) * row[c];
  }
  return total;
}

void measure_error(MatrixView<const float> weight_NK, const QuantizedMatrix& q,
                   const calib::InputStats& stats, const Exec& exec, RoundingReport& report) {
  const Matrix<float> error_NK = difference(dequantize(q), weight_NK);
  if (stats.empty()) {
    const double energy = sum_of_squares(weight_NK);
    report.relative_error = energy > 0 ? sum_of_squares(error_NK) / energy : 0;
    return;
  }
  const double loss = gram_loss(error_NK, stats.gram_KK, exec);
  const double energy = gram_loss(weight_NK, stats.gram_KK, exec);
  report.loss = loss / static_cast<double>(stats.tokens);
  report.relative_error = energy > 0 ? loss / energy : 0;
}

}  // namespace calque::quant
