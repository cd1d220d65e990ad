#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <memory>
#include <numeric>
#include <optional>
#include <utility>

#include "calque/kernels/gptq_sweep.h"
#include "calque/kernels/inverse_cholesky.h"
#include "calque/kernels/refine_grid.h"
#include "calque/quant/methods.h"
#include "quant/weights.h"

namespace calque::quant {
namespace {

using Order = std::vector<Index>;  // order[i]: the column visited i-th

// What depends on the site only. H = G / tokens + damping * I; inputs that were always zero get
// damping alone, so their weights are simply rounded.
struct Site {
  Order order;
  Matrix<float> inverse_factor_KK;  // of H, in visiting order; empty: GPTQ is not usable
  Matrix<float> hessian_KK;         // both triangles, in stored order; only if refining
  double damp_percent = 0;
  double damping = 0;  // added to the diagonal
  Index dead_columns = 0;
  std::string failure;
};

Order visiting_order(const std::vector<float>& diagonal_K, bool act_order) {
  Order order(diagonal_K.size());
  std::iota(order.begin(), order.end(), Index{0});
  if (act_order)
    std::stable_sort(order.begin(), order.end(),
                     [&](Index a, Index b) { return diagonal_K[a] > diagonal_K[b]; });
  return order;
}

// Both triangles of G / tokens, from the upper one.
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

// The upper triangle of `mean_KK` in visiting order.
Matrix<float> ordered_upper(const Matrix<float>& mean_KK, const Order& order) {
  const Index size = mean_KK.rows();
  Matrix<float> ordered_KK(size, size);
  for (Index i = 0; i < size; ++i) {
    const float* source = mean_KK.row(order[i]);
    float* target = ordered_KK.row(i);
    for (Index j = i; j < size; ++j) target[j] = source[order[j]];
  }
  return ordered_KK;
}

// Mean of the diagonal over the inputs that were not always zero.
double mean_of_live(const std::vector<float>& diagonal_K) {
  const auto live = std::count_if(diagonal_K.begin(), diagonal_K.end(),
                                  [](float value) { return value != 0.0f; });
  const double total = std::accumulate(diagonal_K.begin(), diagonal_K.end(), 0.0);
  return live == 0 ? 0.0 : total / static_cast<double>(live);
}

// damp, damp + step, damp + 3 step, damp + 7 step, ..., at last 1.
std::vector<double> damping_ladder(const GptqOptions& options) {
  std::vector<double> ladder = {options.damp_percent};
  for (double step = options.damp_auto_increment; step > 0 && ladder.back() < 1.0; step *= 2)
    ladder.push_back(std::min(1.0, ladder.back() + step));
  return ladder;
}

void set_diagonal(Matrix<float>& hessian_KK, const Site& site, const std::vector<float>& diagonal_K,
                  double mean) {
  for (Index i = 0; i < hessian_KK.rows(); ++i) {
    const float value = diagonal_K[site.order[i]];
    // Without any damping a dead input still needs a pivot; which one makes no difference.
    const double pivot = value == 0.0f && site.damping == 0.0 ? mean : value + site.damping;
    hessian_KK(i, i) = static_cast<float>(pivot);
  }
}

void factor(Site& site, const Matrix<float>& mean_KK, const calib::InputStats& stats,
            const std::vector<float>& diagonal_K, double mean, const GptqOptions& options,
            const Exec& exec) {
  Matrix<float> hessian_KK = ordered_upper(mean_KK, site.order);
  const std::vector<double> ladder = damping_ladder(options);
  for (const double damp : ladder) {
    site.damp_percent = damp;
    site.damping = damp * mean;
    set_diagonal(hessian_KK, site, diagonal_K, mean);
    std::optional<Matrix<float>> factor_KK = inverse_cholesky(hessian_KK, exec);
    if (!factor_KK) continue;
    site.inverse_factor_KK = std::move(*factor_KK);
    return;
  }
  site.failure = fmt::format(
      "the Hessian of {} inputs over {} tokens is not positive definite with damping {} to {} of "
      "its mean diagonal {:.3g} ({} attempts)",
      stats.features(), stats.tokens, ladder.front(), ladder.back(), mean, ladder.size());
}

Site prepare(const calib::InputStats& stats, const GptqOptions& options, const Exec& exec) {
  Site site;
  if (stats.empty()) {
    site.failure = "no calibration statistics";
    return site;
  }
  const std::vector<float> diagonal_K = stats.mean_square_K();
  const double mean = mean_of_live(diagonal_K);
  site.dead_columns = std::count(diagonal_K.begin(), diagonal_K.end(), 0.0f);
  if (!(mean > 0) || !std::isfinite(mean)) {
    site.failure =
        fmt::format("the mean square of the inputs over {} tokens is {}", stats.tokens, mean);
    return site;
  }
  site.order = visiting_order(diagonal_K, options.act_order);
  Matrix<float> mean_KK = symmetric_mean(stats);
  factor(site, mean_KK, stats, diagonal_K, mean, options, exec);
  if (options.refine_passes == 0) return site;
  for (Index k = 0; k < mean_KK.rows(); ++k)
    mean_KK(k, k) = static_cast<float>(diagonal_K[static_cast<std::size_t>(k)] + site.damping);
  site.hessian_KK = std::move(mean_KK);
  return site;
}

Matrix<float> columns_in_order(const Matrix<float>& weight_NK, const Order& order) {
  auto ordered = Matrix<float>::uninitialized(weight_NK.rows(), weight_NK.cols());
  for (Index n = 0; n < weight_NK.rows(); ++n) {
    const float* source = weight_NK.row(n);
    float* target = ordered.row(n);
    for (std::size_t i = 0; i < order.size(); ++i) target[i] = source[order[i]];
  }
  return ordered;
}

void restore_order(const Matrix<std::uint8_t>& ordered, const Order& order,
                   Matrix<std::uint8_t>& codes_NK) {
  for (Index n = 0; n < ordered.rows(); ++n) {
    const std::uint8_t* source = ordered.row(n);
    std::uint8_t* target = codes_NK.row(n);
    for (std::size_t i = 0; i < order.size(); ++i) target[order[i]] = source[i];
  }
}

// Codes of `q` by the sweep; returns tr(E H E^T).
double sweep(const Matrix<float>& weight_NK, const Site& site, Index block_size, QuantizedMatrix& q,
             const Exec& exec) {
  const auto groups = consecutive_groups(q.in_features(), q.grid.group_size_for(q.in_features()));
  std::vector<std::int32_t> ordered_groups_K;
  for (const Index k : site.order) ordered_groups_K.push_back(groups[static_cast<std::size_t>(k)]);
  Matrix<float> ordered_NK = columns_in_order(weight_NK, site.order);
  Matrix<std::uint8_t> codes_NK(q.out_features(), q.in_features());
  const double loss = gptq_sweep(ordered_NK, site.inverse_factor_KK, q.scales_NG, q.offsets_NG,
                                 ordered_groups_K, q.grid.max_code(), block_size, codes_NK, exec);
  restore_order(codes_NK, site.order, q.codes_NK);
  return loss;
}

Rounded round_gptq(const Matrix<float>& weight_NK, const Grid& grid, const GptqOptions& options,
                   const Site& site, const calib::InputStats& stats, const Exec& exec) {
  expect_fits(weight_NK, grid);
  expect_finite(weight_NK);
  Rounded rounded;
  QuantizedMatrix& q = rounded.matrix;
  q = start_on_grid(weight_NK, grid, options.scale_rule,
                    channel_importance(stats, site.damp_percent), exec);
  double loss = sweep(weight_NK, site, options.block_size, q, exec);
  if (options.refine_passes > 0) {
    const RefineOptions refine = {.offset_kind = grid.offset_kind,
                                  .precision = grid.precision,
                                  .max_code = grid.max_code(),
                                  .passes = options.refine_passes};
    loss = refine_grid(weight_NK, site.hessian_KK, grid.group_size_for(q.in_features()), refine,
                       q.scales_NG, q.offsets_NG, q.codes_NK, exec);
  }
  // tr(E G E^T) / tokens = tr(E H E^T) - damping |E|^2: no product with G needed.
  const double error = sum_of_squares(difference(dequantize(q), weight_NK));
  const double energy =
      gram_loss(weight_NK, stats.gram_KK, exec) / static_cast<double>(stats.tokens);
  RoundingReport& report = rounded.report;
  report.method = "gptq";
  report.loss = std::max(0.0, loss - site.damping * error);
  report.relative_error = energy > 0 ? report.loss / energy : 0;
  report.damp_percent = site.damp_percent;
  report.dead_columns = site.dead_columns;
  return rounded;
}

SiteRounder rtn_because(const Site& site, const GptqOptions& options,
                        const calib::InputStats& stats, const Exec& exec) {
  SiteRounder rtn = make_rtn({.scale_rule = options.scale_rule})(stats, exec);
  return [rtn, reason = site.failure, dead = site.dead_columns](Matrix<float> weight_NK,
                                                                const Grid& grid) {
    Rounded rounded = rtn(std::move(weight_NK), grid);
    rounded.report.fallback_reason = reason;
    rounded.report.dead_columns = dead;
    return rounded;
  };
}

}  // namespace

Rounder make_gptq(const GptqOptions& options) {
  return [options](const calib::InputStats& stats, const Exec& exec) -> SiteRounder {
    const auto site = std::make_shared<const Site>(prepare(stats, options, exec));
    if (!site->failure.empty()) return rtn_because(*site, options, stats, exec);
    return [options, site, &stats, exec](Matrix<float> weight_NK, const Grid& grid) {
      return round_gptq(weight_NK, grid, options, *site, stats, exec);
    };
  };
}

}  // namespace calque::quant
