#include "calque/eval/metrics.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "calque/eval/intervals.h"

namespace calque::eval {
namespace {

struct MeanAndError {
  double mean = 0;
  double standard_error = 0;  // sqrt((E[x^2] - E[x]^2) / (n - 1))
};

template <typename Value>
MeanAndError mean_and_error(std::span<const Prediction> predictions, Value value) {
  double sum = 0, squares = 0;
  const double n = static_cast<double>(predictions.size());
  for (const Prediction& p : predictions) {
    sum += value(p);
    squares += value(p) * value(p);
  }
  const double mean = sum / n;
  const double variance = std::max(0.0, squares / n - mean * mean);
  return {mean, n > 1 ? std::sqrt(variance / (n - 1)) : 0.0};
}

Index arg_max(std::span<const double> values) {
  return std::max_element(values.begin(), values.end()) - values.begin();
}

// A mean below 1e-12, where only the last bits of sums differ, counts as 1e-12.
double geometric_mean_of_windows(std::span<const double> values,
                                 std::span<const Index> values_of_window) {
  double logarithms = 0;
  const double* value = values.data();
  for (const Index count : values_of_window) {
    const double mean = std::accumulate(value, value + count, 0.0) / static_cast<double>(count);
    logarithms += std::log(std::max(mean, 1e-12));
    value += count;
  }
  return std::exp(logarithms / static_cast<double>(values_of_window.size()));
}

}  // namespace

void Distribution::set(std::span<const float> logits) {
  const double max = *std::max_element(logits.begin(), logits.end());
  double sum = 0;
  for (std::size_t v = 0; v < logits.size(); ++v) sum += p[v] = std::exp(logits[v] - max);
  const double log_sum = max + std::log(sum);
  for (std::size_t v = 0; v < logits.size(); ++v) {
    p[v] /= sum;
    log_p[v] = logits[v] - log_sum;
  }
}

Prediction compare(const Distribution& reference, const Distribution& candidate,
                   std::int32_t correct) {
  const auto token = static_cast<std::size_t>(correct);
  Prediction result;
  result.nll = -candidate.log_p[token];
  if (&reference == &candidate) return result;
  for (std::size_t v = 0; v < reference.p.size(); ++v)
    if (reference.p[v] > 0)  // 0 ln 0 = 0
      result.kl += reference.p[v] * (reference.log_p[v] - candidate.log_p[v]);
  result.delta_p = candidate.p[token] - reference.p[token];
  result.top1 = arg_max(reference.log_p) == arg_max(candidate.log_p);
  return result;
}

PerplexityResult perplexity(std::span<const Prediction> predictions, PerplexityRule rule) {
  std::vector<Prediction> scored;
  for (const Prediction& p : predictions)
    if (rule == PerplexityRule::kHuggingFace || p.second_half) scored.push_back(p);
  if (scored.empty()) return {};
  const MeanAndError nll = mean_and_error(std::span<const Prediction>(scored),
                                          [](const Prediction& p) { return p.nll; });
  const double value = std::exp(nll.mean);
  return {value, value * nll.standard_error, static_cast<std::int64_t>(scored.size())};
}

DivergenceResult divergence(std::span<const Prediction> predictions,
                            std::span<const Index> predictions_of_window) {
  if (predictions.empty()) return {};
  const Clusters clusters(predictions_of_window);
  std::vector<double> kl, agrees;
  for (const Prediction& p : predictions) {
    kl.push_back(p.kl);
    agrees.push_back(p.top1 ? 1.0 : 0.0);
  }
  DivergenceResult result;
  const Estimate mean = clusters.mean(kl);
  result.kl_mean = mean.value;
  result.kl_mean_uncertainty = mean.standard_error;
  result.kl_typical = geometric_mean_of_windows(kl, predictions_of_window);
  const Estimate agreement = clusters.mean(agrees);
  result.top1_agreement = agreement.value;
  result.top1_agreement_uncertainty = agreement.standard_error;
  result.rms_delta_p = std::sqrt(
      mean_and_error(predictions, [](const Prediction& p) { return p.delta_p * p.delta_p; }).mean);
  result.kl_histogram = kl_histogram(kl);

  std::vector<double> sorted = kl;
  std::sort(sorted.begin(), sorted.end());
  const auto percentile = [&](double fraction, double& value, Interval& interval) {
    value = quantile(sorted, fraction);
    interval = clusters.quantile_interval(kl, sorted, fraction);
  };
  percentile(0.5, result.kl_median, result.median_interval);
  percentile(0.9, result.kl_p90, result.p90_interval);
  percentile(0.99, result.kl_p99, result.p99_interval);
  percentile(0.999, result.kl_p999, result.p999_interval);
  result.kl_max = sorted.back();
  return result;
}

KlHistogram kl_histogram(std::span<const double> kl) {
  KlHistogram histogram;
  histogram.counts.assign(KlHistogram::kBins, 0);
  constexpr double kLast = KlHistogram::kBins - 1;
  for (const double value : kl) {
    // Rounding can leave a divergence a little below zero.
    const double bin =
        value > 0
            ? std::floor((std::log10(value) - KlHistogram::kLog10First) / KlHistogram::kLog10Step)
            : 0.0;
    ++histogram.counts[static_cast<std::size_t>(std::clamp(bin, 0.0, kLast))];
  }
  return histogram;
}

double quantile(std::span<const double> sorted, double fraction) {
  const double position = fraction * static_cast<double>(sorted.size() - 1);
  const auto low = static_cast<std::size_t>(position);
  const std::size_t high = std::min(low + 1, sorted.size() - 1);
  const double t = position - static_cast<double>(low);
  return sorted[low] + t * (sorted[high] - sorted[low]);
}

}  // namespace calque::eval
