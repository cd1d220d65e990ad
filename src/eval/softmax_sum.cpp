#include "eval/softmax_sum.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "eval/exponential.h"

namespace calque::eval {
namespace {

// Partial sums and maxima: a fixed order of operations, which the compiler makes vectors of.
constexpr std::size_t kLanes = 16;

float largest_of(std::span<const float> values) {
  std::array<float, kLanes> partial;
  partial.fill(-std::numeric_limits<float>::infinity());
  const std::size_t whole = values.size() - values.size() % kLanes;
  for (std::size_t v = 0; v < whole; v += kLanes)
    for (std::size_t j = 0; j < kLanes; ++j)
      partial[j] = values[v + j] > partial[j] ? values[v + j] : partial[j];
  float largest = partial[0];
  for (const float value : partial) largest = std::max(largest, value);
  for (std::size_t v = whole; v < values.size(); ++v) largest = std::max(largest, values[v]);
  return largest;
}

// `term(v)` for all v < count.
template <typename Term>
double sum_of(std::size_t count, Term term) {
  std::array<double, kLanes> partial{};
  const std::size_t whole = count - count % kLanes;
  for (std::size_t v = 0; v < whole; v += kLanes)
    for (std::size_t j = 0; j < kLanes; ++j) partial[j] += term(v + j);
  double sum = 0;
  for (const double value : partial) sum += value;
  for (std::size_t v = whole; v < count; ++v) sum += term(v);
  return sum;
}

double log_normaliser(const SoftmaxSum& row) { return row.largest + std::log(row.sum); }

}  // namespace

double add_strip(std::span<const float> logits, Index first_token, SoftmaxSum& row,
                 std::span<double> exponentials) {
  double shrunk = 1;
  const float largest = largest_of(logits);
  if (largest > row.largest) {
    shrunk = std::exp(static_cast<double>(row.largest) - static_cast<double>(largest));
    row.sum *= shrunk;
    row.largest = largest;
    const auto place = std::find(logits.begin(), logits.end(), largest) - logits.begin();
    row.arg_max = static_cast<std::int32_t>(first_token + place);
  }
  const double from = row.largest;
  for (std::size_t v = 0; v < logits.size(); ++v)
    exponentials[v] = exponential(static_cast<double>(logits[v]) - from);
  row.sum += sum_of(logits.size(), [&](std::size_t v) { return exponentials[v]; });
  return shrunk;
}

double crossed_strip(std::span<const double> exponentials, std::span<const float> reference,
                     std::span<const float> candidate) {
  return sum_of(exponentials.size(), [&](std::size_t v) {
    return exponentials[v] *
           (static_cast<double>(reference[v]) - static_cast<double>(candidate[v]));
  });
}

Prediction compare(const SoftmaxSum& reference, const SoftmaxSum& candidate) {
  const double log_q = candidate.correct - log_normaliser(candidate);
  Prediction result;
  result.nll = -log_q;
  if (&reference == &candidate) return result;
  result.kl =
      candidate.crossed / reference.sum - (log_normaliser(reference) - log_normaliser(candidate));
  result.delta_p = std::exp(log_q) - std::exp(reference.correct - log_normaliser(reference));
  result.top1 = reference.arg_max == candidate.arg_max;
  return result;
}

}  // namespace calque::eval
