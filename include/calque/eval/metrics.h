#pragma once

#include <span>
#include <vector>

#include "calque/core/matrix.h"
#include "calque/eval/evaluate.h"

namespace calque::eval {

// What one prediction contributes.
struct Prediction {
  double nll = 0;            // -ln q(correct)
  double kl = 0;             // KL(p || q), p the reference
  double delta_p = 0;        // q(correct) - p(correct)
  bool top1 = true;          // arg max agrees with the reference's (first of equals)
  bool second_half = false;  // enters llama.cpp's perplexity
};

// Log-probabilities of one row of logits, in double.
void log_softmax(std::span<const float> logits, std::span<double> log_probabilities);

// Compares two rows of log-probabilities for the token that came next. For the reference itself
// pass the same row twice.
Prediction compare(std::span<const double> reference, std::span<const double> candidate,
                   std::int32_t correct);

// Mean, standard error, perplexity, percentiles (linear interpolation between order statistics,
// as llama.cpp's perplexity tool does).
PerplexityResult perplexity(std::span<const Prediction> predictions, PerplexityRule rule);
DivergenceResult divergence(std::span<const Prediction> predictions);

// The `fraction` quantile of sorted values: position fraction * (n - 1), interpolated.
double quantile(std::span<const double> sorted, double fraction);

}  // namespace calque::eval
