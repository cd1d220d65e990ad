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
  double degrees = 0;  // degrees of freedom of the standard error
};

// Errors of means and quantiles of values that come in clusters of alike ones: predictions of one
// window share its text, so n of them tell less than n independent ones would.
//
// Clusters are the windows; where those are fewer than kFewestClusters, each is cut into equal runs
// of neighbours so that there are at least that many (batch means: runs longer than the reach of
// the correlation are nearly independent).
//
// Mean: the ratio estimator's linearised variance, C / (C - 1) sum_c (S_c - mean n_c)^2 / n^2 over
// C clusters with n_c values that sum to S_c (Cochran, Sampling Techniques, 6.4). Its degrees of
// freedom by Satterthwaite's rule, (sum_c d_c^2)^2 / sum_c d_c^4 of the clusters' deviations d_c
// and at most C - 1: few where few windows make up the variance, as in the tail.
//
// Quantile: Woodruff (1952, JASA 47). The share of values up to the estimated quantile has a
// variance by the same formula; that makes an effective sample size m = p (1 - p) / variance, never
// more than n; Wilson's interval for a share with m observations and Student's t gives two shares;
// the sample's quantiles at those are the ends. Chosen before a bootstrap over windows because it
// needs no random numbers and covers better: of 400 samples of 40 windows with 100 log-normal
// values, a third of the variance the windows', the median's and the 99th percentile's interval
// held the truth in 95 and 92 % (bootstrap 94 and 85 %; as if independent 30 and 53 %). No method
// without a model of the tail knows what lies beyond the largest value: with fewer than some ten
// values beyond a percentile (p = 0.999 with n < 10,000) its upper end covers less than it says.
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

// The 97.5 % point of Student's t: Cornish and Fisher's expansion to the third order in 1 /
// degrees, within 0.1 % from 6 degrees on.
double student_t_975(double degrees);

}  // namespace calque::eval
