#include "quant/gptq_site.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <optional>
#include <utility>
#include <vector>

#include "calque/kernels/inverse_cholesky.h"
#include "quant/weights.h"

namespace calque::quant {
namespace {

// Mean of the diagonal over the inputs that were not always zero.
double mean_of_live(const std::vector<float>& diagonal_K) {
  const auto live = std::count_if(diagonal_K.begin(), diagonal_K.end(),
                                  [](float value) { return value != 0.0f; });
  const double total = std::accumulate(diagonal_K.begin(), diagonal_K.end(), 0.0);
  return live == 0 ? 0.0 : total / static_cast<double>(live);
}

// damp, damp + step, damp + 3 step, damp + 7 step, ..., at last 1.
std::vector<double> damping_ladder(const RoundingOptions& options) {
  std::vector<double> ladder = {options.damp_percent};
  for (double step = options.damp_auto_increment; step > 0 && ladder.back() < 1.0; step *= 2)
    ladder.push_back(std::min(1.0, ladder.back() + step));
  return ladder;
}

void set_diagonal(Matrix<float>& hessian_KK, const GptqSite& site,
                  const std::vector<float>& diagonal_K, double mean) {
  for (Index i = 0; i < hessian_KK.rows(); ++i) {
    const float value = diagonal_K[site.order[i]];
    // Without any damping a dead input still needs a pivot; which one makes no difference.
    const double pivot = value == 0.0f && site.damping == 0.0 ? mean : value + site.damping;
    hessian_KK(i, i) = static_cast<float>(pivot);
  }
}

// The diagonal of H in stored order.
std::vector<double> damped_diagonal(const GptqSite& site, const std::vector<float>& diagonal_K) {
  std::vector<double> damped_K;
  for (const float value : diagonal_K) damped_K.push_back(value + site.damping);
  return damped_K;
}

void factor(GptqSite& site, const quant::InputStats& stats, const std::vector<float>& diagonal_K,
            double mean, const RoundingOptions& options, const Exec& exec) {
  const std::vector<double> ladder = damping_ladder(options);
  for (const double damp : ladder) {
    site.damp_percent = damp;
    site.damping = damp * mean;
    Matrix<float> hessian_KK =
        upper_in_order(stats.gram_KK, site.order, 1.0f / static_cast<float>(stats.tokens));
    set_diagonal(hessian_KK, site, diagonal_K, mean);
    std::optional<Matrix<float>> factor_KK = inverse_cholesky(std::move(hessian_KK), exec);
    if (!factor_KK) continue;
    site.inverse_factor_KK = std::move(*factor_KK);
    return;
  }
  site.failure = fmt::format(
      "the Hessian of {} inputs over {} tokens is not positive definite with damping {} to {} of "
      "its mean diagonal {:.3g} ({} attempts)",
      stats.features(), stats.tokens, ladder.front(), ladder.back(), mean, ladder.size());
}

}  // namespace

GptqSite factor_site(const quant::InputStats& stats, const RoundingOptions& options, const Exec& exec) {
  GptqSite site;
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
  site.order = options.act_order ? falling_order(diagonal_K) : stored_order(diagonal_K.size());
  factor(site, stats, diagonal_K, mean, options, exec);
  return site;
}

GptqSite prepare_gptq(quant::InputStats& stats, bool in_order, const RoundingOptions& options,
                      const Exec& exec) {
  fill_lower(stats.gram_KK);
  GptqSite site = factor_site(stats, options, exec);
  if (!site.failure.empty()) return site;
  const std::vector<float> diagonal_K = stats.mean_square_K();
  site.hessian_KK = stats.take_gram();
  make_hessian(site.hessian_KK, stats.tokens, damped_diagonal(site, diagonal_K));
  site.hessian_in_order = in_order;
  if (in_order) put_square_in_order(site.hessian_KK, site.order);
  return site;
}

ErrorMeasure measure_of(const GptqSite& site) {
  return {.matrix_KK = site.hessian_KK.view(), .scale = 1, .damping = site.damping};
}

void GptqSums::operator+=(const GptqSums& other) {
  loss += other.loss;
  error += other.error;
  energy += other.energy;
}

// tr(E G E^T) / tokens = tr(E H E^T) - damping |E|^2: no product with G needed.
RoundingReport gptq_report(const GptqSums& sums, const GptqSite& site) {
  RoundingReport report;
  report.method = kGptq.name;
  report.loss = std::max(0.0, sums.loss - site.damping * sums.error);
  report.relative_error = sums.energy > 0 ? report.loss / sums.energy : 0;
  report.damp_percent = site.damp_percent;
  report.dead_columns = site.dead_columns;
  return report;
}

}  // namespace calque::quant
