#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "calque/core/matrix.h"
#include "calque/eval/evaluate.h"

namespace calque::eval {

// The contribution of one prediction.
struct Prediction {
  double nll = 0;            // -ln q(correct)
  double kl = 0;             // KL(p || q), p the reference
  double delta_p = 0;        // q(correct) - p(correct)
  bool top1 = true;          // arg max agrees with the reference's (first of equals)
  std::int32_t arg_max = 0;  // the most likely token (first of equals)
  bool second_half = false;  // enters llama.cpp's perplexity
};

// The next-token distribution that one row of logits stands for, in double.
struct Distribution {
  explicit Distribution(std::size_t vocab_size) : p(vocab_size), log_p(vocab_size) {}
  void set(std::span<const float> logits);  // softmax

  std::vector<double> p;
  std::vector<double> log_p;
};

// Compares two distributions for the token that came next. For the reference itself pass it twice.
Prediction compare(const Distribution& reference, const Distribution& candidate,
                   std::int32_t correct);

// Mean negative log-likelihood with its standard error as Hugging Face's and llama.cpp's tools give
// it: as if predictions were independent.
PerplexityResult perplexity(std::span<const Prediction> predictions, PerplexityRule rule);

// Everything about KL divergence and agreement. Window i made predictions_of_window[i] of the
// predictions, in order: their errors are alike, which intervals.h allows for. Percentiles
// interpolate linearly between order statistics, as llama.cpp's perplexity tool does.
DivergenceResult divergence(std::span<const Prediction> predictions,
                            std::span<const Index> predictions_of_window);

KlHistogram kl_histogram(std::span<const double> kl);

// The `fraction` quantile of sorted values: position fraction * (n - 1), interpolated.
double quantile(std::span<const double> sorted, double fraction);

}  // namespace calque::eval
