#include "calque/eval/metrics.h"

#include <gtest/gtest.h>

#include <array>
#include <cmath>

namespace calque::eval {
namespace {

Distribution distribution(const std::vector<double>& probabilities) {
  Distribution result(probabilities.size());
  result.p = probabilities;
  for (std::size_t v = 0; v < probabilities.size(); ++v) result.log_p[v] = std::log(result.p[v]);
  return result;
}

TEST(Distribution, SumsToOneAndSurvivesLargeLogits) {
  Distribution d(3);
  d.set(std::array<float, 3>{1000.0f, 1000.0f, -1000.0f});
  EXPECT_DOUBLE_EQ(d.p[0] + d.p[1] + d.p[2], 1.0);
  // Differences of numbers near 1000 and 2000: a few units in the last place, 2.3e-13 each.
  EXPECT_NEAR(d.log_p[0], -std::log(2.0), 1e-12);
  EXPECT_NEAR(d.log_p[2], -2000.0 - std::log(2.0), 1e-12);
}

// By hand: p = (1/2, 1/4, 1/4), q = (1/4, 1/2, 1/4). KL = 1/2 ln 2 + 1/4 ln(1/2) = 1/4 ln 2.
TEST(Compare, MatchesAHandCalculation) {
  const Prediction result =
      compare(distribution({0.5, 0.25, 0.25}), distribution({0.25, 0.5, 0.25}), 1);
  EXPECT_NEAR(result.kl, 0.25 * std::log(2.0), 1e-15);
  EXPECT_NEAR(result.nll, std::log(2.0), 1e-15);
  EXPECT_NEAR(result.delta_p, 0.25, 1e-15);
  EXPECT_FALSE(result.top1);
}

TEST(Compare, FindsNoDivergenceBetweenEqualRows) {
  const Prediction result =
      compare(distribution({0.5, 0.25, 0.25}), distribution({0.5, 0.25, 0.25}), 0);
  EXPECT_EQ(result.kl, 0.0);
  EXPECT_EQ(result.delta_p, 0.0);
  EXPECT_TRUE(result.top1);
}

TEST(Perplexity, IsTheExponentialOfTheMeanWithItsError) {
  std::vector<Prediction> predictions(2);
  predictions[0].nll = std::log(2.0);
  predictions[1].nll = std::log(8.0);
  const PerplexityResult result = perplexity(predictions, PerplexityRule::kHuggingFace);
  EXPECT_NEAR(result.value, 4.0, 1e-12);
  EXPECT_NEAR(result.uncertainty, 4.0 * std::log(2.0), 1e-12);
  EXPECT_EQ(result.predictions, 2);
}

TEST(Perplexity, OfLlamaCppCountsOnlySecondHalves) {
  std::vector<Prediction> predictions(3);
  predictions[0].nll = 100.0;
  predictions[2].nll = std::log(8.0);
  predictions[2].second_half = true;
  const PerplexityResult result = perplexity(predictions, PerplexityRule::kLlamaCpp);
  EXPECT_NEAR(result.value, 8.0, 1e-12);
  EXPECT_EQ(result.predictions, 1);
}

TEST(Quantile, InterpolatesBetweenOrderStatistics) {
  const std::array<double, 5> sorted{0.0, 1.0, 2.0, 3.0, 10.0};
  EXPECT_DOUBLE_EQ(quantile(sorted, 0.5), 2.0);
  EXPECT_DOUBLE_EQ(quantile(sorted, 0.9), 3.0 + 0.6 * 7.0);
  EXPECT_DOUBLE_EQ(quantile(sorted, 1.0), 10.0);
}

TEST(Divergence, SummarisesAllPredictions) {
  std::vector<Prediction> predictions(101);
  for (int i = 0; i <= 100; ++i) {
    auto& p = predictions[static_cast<std::size_t>(i)];
    p.kl = i;
    p.top1 = i % 4 != 0;  // 26 of 101 disagree
    p.delta_p = i % 2 == 0 ? 0.3 : -0.3;
  }
  const std::vector<Index> one_window{101};
  const DivergenceResult result = divergence(predictions, one_window);
  EXPECT_DOUBLE_EQ(result.kl_mean, 50.0);
  EXPECT_DOUBLE_EQ(result.kl_median, 50.0);
  EXPECT_DOUBLE_EQ(result.kl_p90, 90.0);
  EXPECT_DOUBLE_EQ(result.kl_p99, 99.0);
  EXPECT_DOUBLE_EQ(result.kl_max, 100.0);
  EXPECT_NEAR(result.top1_agreement, 75.0 / 101.0, 1e-12);
  EXPECT_NEAR(result.rms_delta_p, 0.3, 1e-12);
}

// Windows with means 0.02 and 2: their geometric mean is 0.2.
TEST(Divergence, OfATypicalWindowIsTheGeometricMean) {
  std::vector<Prediction> predictions(5);
  const std::array<double, 5> kl{0.01, 0.03, 1.0, 2.0, 3.0};
  for (std::size_t i = 0; i < kl.size(); ++i) predictions[i].kl = kl[i];
  const std::vector<Index> windows{2, 3};
  EXPECT_NEAR(divergence(predictions, windows).kl_typical, 0.2, 1e-15);
}

// 10^-9.5 and a negative one go to the first bin; 10^-9 + 4 steps is bin 4; 1000 nats the last.
TEST(KlHistogram, CountsByTheLogarithmAndTakesWhatLiesBeyond) {
  const std::array<double, 5> kl{-1e-16, 3e-10, 1.0001e-8, 0.02, 1000.0};
  const std::vector<std::int64_t> counts = kl_histogram(kl).counts;
  ASSERT_EQ(counts.size(), 44u);
  EXPECT_EQ(counts[0], 2);
  EXPECT_EQ(counts[4], 1);
  EXPECT_EQ(counts[29], 1);  // log10(0.02) = -1.699: (9 - 1.699) / 0.25 = 29.2
  EXPECT_EQ(counts[43], 1);
}

}  // namespace
}  // namespace calque::eval
