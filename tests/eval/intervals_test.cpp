#include "calque/eval/intervals.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <random>
#include <vector>

#include "calque/eval/metrics.h"

namespace calque::eval {
namespace {

// Windows of 2 and 1 values would be cut into runs: twenty windows are not.
std::vector<Index> windows(Index count, Index values) {
  return std::vector<Index>(static_cast<std::size_t>(count), values);
}

TEST(Clusters, AreWindowsOrRunsOfThem) {
  EXPECT_EQ(Clusters(windows(40, 511)).count(), 40);
  EXPECT_EQ(Clusters(windows(1, 2047)).count(), 20);
  EXPECT_EQ(Clusters(windows(3, 100)).count(), 21);
  EXPECT_EQ(Clusters(windows(1, 5)).count(), 5);
}

// Twenty windows of two equal values, ten of them 0 and ten 1: deviations of the sums from their
// mean are +-1, so the variance is 20 / 19 * 20 / 40^2.
TEST(Clusters, CountTheMeanOfAlikeValuesOnce) {
  std::vector<double> values;
  for (int i = 0; i < 40; ++i) values.push_back(i < 20 ? 0.0 : 1.0);
  const Estimate mean = Clusters(windows(20, 2)).mean(values);
  EXPECT_DOUBLE_EQ(mean.value, 0.5);
  EXPECT_NEAR(mean.standard_error, std::sqrt(20.0 / 19.0 * 20.0) / 40.0, 1e-15);
}

// Tables of Student's t.
TEST(StudentT, HasTheTablesValues) {
  EXPECT_NEAR(student_t_975(39), 2.0227, 1e-4);
  EXPECT_NEAR(student_t_975(19), 2.0930, 1e-4);
  EXPECT_NEAR(student_t_975(6), 2.4469, 3e-3);
  EXPECT_NEAR(student_t_975(1e9), 1.95996, 1e-5);
}

// Values exp(a + b), a the window's, b the prediction's: log-normal with variance s^2 = 1/2 + 1, so
// its quantiles are exp(s z) and its mean exp(s^2 / 2).
class Samples {
 public:
  static constexpr Index kWindows = 40;
  static constexpr Index kValues = 100;
  static constexpr int kSamples = 400;

  std::vector<double> next() {
    std::vector<double> values;
    for (Index w = 0; w < kWindows; ++w) {
      const double shared = std::sqrt(0.5) * normal_(generator_);
      for (Index i = 0; i < kValues; ++i) values.push_back(std::exp(shared + normal_(generator_)));
    }
    return values;
  }

 private:
  std::mt19937_64 generator_{20};
  std::normal_distribution<double> normal_;
};

double coverage(double fraction, double z) {
  const double truth = std::exp(std::sqrt(1.5) * z);
  const Clusters clusters(windows(Samples::kWindows, Samples::kValues));
  Samples samples;
  int covered = 0;
  for (int s = 0; s < Samples::kSamples; ++s) {
    const std::vector<double> values = samples.next();
    std::vector<double> sorted = values;
    std::sort(sorted.begin(), sorted.end());
    const Interval interval = clusters.quantile_interval(values, sorted, fraction);
    covered += interval.low <= truth && truth <= interval.high;
  }
  return covered / static_cast<double>(Samples::kSamples);
}

// 400 samples of a coverage of 0.95 have a standard error of 0.011: three of them either way. As if
// values were independent the median's interval would cover 0.48.
TEST(QuantileInterval, CoversTheTruthInNineteenOfTwentySamples) {
  EXPECT_NEAR(coverage(0.5, 0.0), 0.95, 0.033);
  EXPECT_NEAR(coverage(0.9, 1.2815515655), 0.95, 0.033);
  EXPECT_NEAR(coverage(0.99, 2.3263478740), 0.95, 0.033);
  EXPECT_NEAR(coverage(0.999, 3.0902323062), 0.95, 0.033);
}

TEST(MeanError, IsTheSpreadOfTheMeansOfManySamples) {
  const Clusters clusters(windows(Samples::kWindows, Samples::kValues));
  Samples samples;
  double sum = 0, squares = 0, variance = 0;
  for (int s = 0; s < Samples::kSamples; ++s) {
    const Estimate mean = clusters.mean(samples.next());
    sum += mean.value;
    squares += mean.value * mean.value;
    variance += mean.standard_error * mean.standard_error;
  }
  const double n = Samples::kSamples;
  // A variance from 400 samples is known to sqrt(2 / 400) = 7 % where they are normal; these have
  // heavier tails: 20 %.
  EXPECT_NEAR(variance / n / (squares / n - sum / n * (sum / n)), 1.0, 0.2);
  EXPECT_NEAR(sum / n, std::exp(0.75), 0.05);
}

TEST(QuantileInterval, OfEqualValuesIsThem) {
  const std::vector<double> values(60, 0.25);
  const Interval interval = Clusters(windows(20, 3)).quantile_interval(values, values, 0.99);
  EXPECT_EQ(interval.low, 0.25);
  EXPECT_EQ(interval.high, 0.25);
}

}  // namespace
}  // namespace calque::eval
