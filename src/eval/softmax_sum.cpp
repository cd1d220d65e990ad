#include "eval/softmax_sum.h"

#include <algorithm>
#include <cmath>

#include "calque/core/copies.h"
#include "eval/strip_loops.h"

namespace calque::eval {
namespace {

double log_normaliser(const SoftmaxSum& row) { return row.largest + std::log(row.sum); }

}  // namespace

const StripLoops& strip_loops() {
  static const StripLoops& chosen = CALQUE_CHOSEN_COPY(compiled_strip_loops)();
  return chosen;
}

double add_strip(std::span<const float> logits, Index first_token, SoftmaxSum& row,
                 std::span<double> exponentials) {
  double shrunk = 1;
  const float largest = strip_loops().largest(logits);
  if (largest > row.largest) {
    shrunk = std::exp(static_cast<double>(row.largest) - static_cast<double>(largest));
    row.sum *= shrunk;
    row.largest = largest;
    const auto place = std::find(logits.begin(), logits.end(), largest) - logits.begin();
    row.arg_max = static_cast<std::int32_t>(first_token + place);
  }
  row.sum += strip_loops().exponentials(logits, row.largest, exponentials);
  return shrunk;
}

double crossed_strip(std::span<const double> exponentials, std::span<const float> reference,
                     std::span<const float> candidate) {
  return strip_loops().crossed(exponentials, reference, candidate);
}

bool is_distribution(const SoftmaxSum& row) { return std::isfinite(row.sum) && row.sum > 0; }

Prediction compare(const SoftmaxSum& reference, const SoftmaxSum& candidate) {
  const double log_q = candidate.correct - log_normaliser(candidate);
  Prediction result;
  result.nll = -log_q;
  result.arg_max = candidate.arg_max;
  if (&reference == &candidate) return result;
  result.kl =
      candidate.crossed / reference.sum - (log_normaliser(reference) - log_normaliser(candidate));
  result.delta_p = std::exp(log_q) - std::exp(reference.correct - log_normaliser(reference));
  result.top1 = reference.arg_max == candidate.arg_max;
  return result;
}

}  // namespace calque::eval
