#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "calque/core/matrix.h"
#include "calque/eval/evaluate.h"

namespace calque::eval {

struct Estimate {
  double value = 0;
  double standard_error = 0;
};

// Errors of means and quantiles of values that come in clusters of alike ones: predictions of one
// window share its text, so n of them tell less than n independent ones would.
//
// Clusters are the windows; where those are fewer than kFewestClusters, each is cut into equal runs
// of neighbours so that there are at least that many (batch means: runs longer than the reach of
// the correlation are nearly independent).
//
// Mean: the ratio estimator's linearised variance, C / (C - 1) sum_c (S_c - mean n_c)^2 / n^2 over
// C clusters with n_c values that sum to S_c (Cochran, Sampling Techniques, 6.4).
//
// Quantile: Woodruff (1952, JASA 47). The share of values up to the estimated quantile has a
// variance by the same formula; that makes an effective sample size m = p (1 - p) / variance, never
// more than n; Wilson's interval for a share with m observations and Student's t of C - 1 degrees
// gives two shares; the sample's quantiles at those are the ends. Chosen before a bootstrap over
// windows because it needs no resampling and no random numbers, holds with few windows, where the
// bootstrap is too narrow, and never leaves (0, 1). No method without a model of the tail knows
// what lies beyond the largest value: where n p^n is not small (p = 0.999 with n < 3700) the upper
// end covers less than it says.
class Clusters {
 public:
  static constexpr Index kFewestClusters = 20;

  // Window i has values_of_window[i] of the values, in order.
  explicit Clusters(std::span<const Index> values_of_window);

  Index count() const { return static_cast<Index>(sizes_.size()); }
  Estimate mean(std::span<const double> values) const;
  // 95 %. `sorted`: the same values, ascending.
  Interval quantile_interval(std::span<const double> values, std::span<const double> sorted,
                             double fraction) const;

 private:
  std::vector<Index> sizes_;
};

// The 97.5 % point of Student's t: Cornish and Fisher's expansion to the third order in 1 / degrees,
// within 0.1 % from 6 degrees on.
double student_t_975(double degrees);

}  // namespace calque::eval
