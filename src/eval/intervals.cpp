#include "calque/eval/intervals.h"

#include <algorithm>
#include <cmath>

#include "calque/eval/metrics.h"

namespace calque::eval {

Clusters::Clusters(std::span<const Index> values_of_window) {
  const auto windows = static_cast<Index>(values_of_window.size());
  const Index runs = windows == 0 ? 1 : (kFewestClusters + windows - 1) / windows;
  for (const Index values : values_of_window)
    for (Index run = 0; run < runs; ++run) {
      const Index size = values * (run + 1) / runs - values * run / runs;
      if (size > 0) sizes_.push_back(size);
    }
}

Estimate Clusters::mean(std::span<const double> values) const {
  double sum = 0;
  for (const double value : values) sum += value;
  const auto n = static_cast<double>(values.size());
  Estimate result{sum / n, 0};
  if (count() < 2) return result;
  double squares = 0;
  std::size_t first = 0;
  for (const Index size : sizes_) {
    double deviation = 0;
    for (Index i = 0; i < size; ++i) deviation += values[first++] - result.value;
    squares += deviation * deviation;
  }
  const auto clusters = static_cast<double>(count());
  result.standard_error = std::sqrt(clusters / (clusters - 1) * squares) / n;
  return result;
}

Interval Clusters::quantile_interval(std::span<const double> values, std::span<const double> sorted,
                                     double fraction) const {
  if (count() < 2) return {sorted.front(), sorted.back()};
  const double at = quantile(sorted, fraction);
  std::vector<double> below;
  for (const double value : values) below.push_back(value <= at ? 1.0 : 0.0);
  const double spread = mean(below).standard_error;
  const auto n = static_cast<double>(values.size());
  const double binomial = fraction * (1 - fraction);
  const double m = std::min(n, binomial / (spread * spread));
  const double t = student_t_975(static_cast<double>(count() - 1));
  const double shrink = 1 + t * t / m;
  const double centre = (fraction + t * t / (2 * m)) / shrink;
  const double half = t / shrink * std::sqrt(binomial / m + t * t / (4 * m * m));
  return {quantile(sorted, std::max(0.0, centre - half)),
          quantile(sorted, std::min(1.0, centre + half))};
}

double student_t_975(double degrees) {
  constexpr double z = 1.959963984540054;
  constexpr double z3 = z * z * z, z5 = z3 * z * z, z7 = z5 * z * z;
  return z + (z3 + z) / (4 * degrees) + (5 * z5 + 16 * z3 + 3 * z) / (96 * degrees * degrees) +
         (3 * z7 + 19 * z5 + 17 * z3 - 15 * z) / (384 * degrees * degrees * degrees);
}

}  // namespace calque::eval
