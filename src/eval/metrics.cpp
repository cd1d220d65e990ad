#include "calque/eval/metrics.h"

#include <algorithm>
#include <cmath>

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

DivergenceResult divergence(std::span<const Prediction> predictions) {
  if (predictions.empty()) return {};
  std::vector<double> sorted;
  for (const Prediction& p : predictions) sorted.push_back(p.kl);
  std::sort(sorted.begin(), sorted.end());
  const MeanAndError kl = mean_and_error(predictions, [](const Prediction& p) { return p.kl; });

  DivergenceResult result;
  result.kl_mean = kl.mean;
  result.kl_mean_uncertainty = kl.standard_error;
  result.kl_median = quantile(sorted, 0.5);
  result.kl_p99 = quantile(sorted, 0.99);
  result.kl_p999 = quantile(sorted, 0.999);
  result.kl_max = sorted.back();
  result.top1_agreement =
      mean_and_error(predictions, [](const Prediction& p) { return p.top1 ? 1.0 : 0.0; }).mean;
  result.rms_delta_p = std::sqrt(
      mean_and_error(predictions, [](const Prediction& p) { return p.delta_p * p.delta_p; }).mean);
  return result;
}

double quantile(std::span<const double> sorted, double fraction) {
  const double position = fraction * static_cast<double>(sorted.size() - 1);
  const auto low = static_cast<std::size_t>(position);
  const std::size_t high = std::min(low + 1, sorted.size() - 1);
  const double t = position - static_cast<double>(low);
  return sorted[low] + t * (sorted[high] - sorted[low]);
}

}  // namespace calque::eval
