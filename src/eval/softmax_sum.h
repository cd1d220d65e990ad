#pragma once

#include <cstdint>
#include <limits>
#include <span>

#include "calque/core/matrix.h"
#include "calque/eval/metrics.h"

namespace calque::eval {

// The next-token distribution of one row of logits, gathered strip by strip of the vocabulary, and
// how it compares with the reference's. KL(p || q) = sum p (r - l) - ln R + ln L, where r and l are
// the two models' logits, p = e^r / R, and R and L are the sums of e^r and e^l: all of it from sums
// that a strip adds to. They are relative to the largest logit so far and shrink when a strip has a
// larger one.
struct SoftmaxSum {
  double sum = 0;      // sum of e^(logit - largest)
  double crossed = 0;  // sum of e^(r - the reference's largest) (r - logit)
  float largest = -std::numeric_limits<float>::infinity();
  float correct = 0;         // the logit of the token that came next
  std::int32_t arg_max = 0;  // the first of equals
};

// Adds the logits of tokens first_token and following. Returns what earlier sums were multiplied by
// because of a larger logit. `exponentials` (as many as logits) is set to those that were added.
double add_strip(std::span<const float> logits, Index first_token, SoftmaxSum& row,
                 std::span<double> exponentials);

// sum_v exponentials_v (reference_v - candidate_v): what the strip adds to `crossed`. A token that
// the reference never says (its logit is negative infinity) adds nothing: 0 ln 0 = 0.
double crossed_strip(std::span<const double> exponentials, std::span<const float> reference,
                     std::span<const float> candidate);

// After the last strip: false if a logit was NaN or positive infinity, or no token was possible.
bool is_distribution(const SoftmaxSum& row);

// After the last strip: what compare() says of the two distributions. For the reference itself pass
// it twice.
Prediction compare(const SoftmaxSum& reference, const SoftmaxSum& candidate);

}  // namespace calque::eval
