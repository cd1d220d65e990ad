#include "calque/calib/collect.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <limits>

#include "calque/core/error.h"
#include "support/samples.h"

namespace calque::calib {
namespace {

constexpr Index kFeatures = 19;

Exec cpu() { return open_exec("cpu", 2); }

forward::ActivationView view_of(MatrixView<const float> inputs_TK) { return {inputs_TK, {}}; }
forward::ActivationView view_of(MatrixView<const BFloat16> inputs_TK) { return {{}, inputs_TK}; }

template <typename T>
quant::InputStats collect(const Matrix<T>& inputs_TK, Index rows_a_call) {
  StatsCollector collector(kFeatures, cpu());
  for (Index t = 0; t < inputs_TK.rows(); t += rows_a_call)
    collector.add(view_of(inputs_TK.view().rows(t, std::min(rows_a_call, inputs_TK.rows() - t))));
  return collector.finish();
}

TEST(StatsCollector, SumsWhatItIsGiven) {
  const Matrix<float> inputs_TK = test::normal_matrix(150, kFeatures, 1);
  const quant::InputStats stats = collect(inputs_TK, 40);
  EXPECT_EQ(stats.tokens, 150);
  EXPECT_EQ(stats.nonfinite_tokens, 0);
  EXPECT_EQ(stats.features(), kFeatures);
  EXPECT_FALSE(stats.empty());
  const Matrix<double> exact = test::gram_in_double(inputs_TK);
  double magnitude = 0;
  for (Index t = 0; t < 150; ++t) magnitude += std::abs(inputs_TK(t, 4));
  EXPECT_DOUBLE_EQ(stats.magnitude_K[4], magnitude);
  // 150 products in fp32: (T + 1) u sum |x y|, and sum |x y| is at most the root of the product of
  // the diagonal entries.
  for (Index i = 0; i < kFeatures; ++i)
    for (Index j = i; j < kFeatures; ++j)
      EXPECT_NEAR(stats.gram_KK(i, j), exact(i, j),
                  152 * 0x1p-24 * std::sqrt(exact(i, i) * exact(j, j)));
}

TEST(StatsCollector, DoesNotDependOnHowRowsAreCutIntoCalls) {
  const Matrix<float> inputs_TK = test::normal_matrix(4500, kFeatures, 2);
  const quant::InputStats at_once = collect(inputs_TK, 4500);
  for (const Index rows : {1, 173, 2048}) {
    const quant::InputStats stats = collect(inputs_TK, rows);
    EXPECT_TRUE(test::same_bytes(stats.gram_KK, at_once.gram_KK)) << rows;
    EXPECT_EQ(stats.magnitude_K, at_once.magnitude_K);
    EXPECT_EQ(stats.tokens, 4500);
  }
}

TEST(StatsCollector, TakesBFloat16) {
  Matrix<BFloat16> inputs_TK(3, kFeatures);
  for (Index t = 0; t < 3; ++t) inputs_TK(t, 5) = to_bfloat16(static_cast<float>(t + 1));
  const quant::InputStats stats = collect(inputs_TK, 2);
  EXPECT_EQ(stats.gram_KK(5, 5), 14.0f);  // 1 + 4 + 9
  EXPECT_EQ(stats.magnitude_K[5], 6.0);
}

TEST(StatsCollector, LeavesOutAndCountsRowsThatAreNotFinite) {
  Matrix<float> inputs_TK = test::normal_matrix(30, kFeatures, 3);
  inputs_TK(7, 0) = std::numeric_limits<float>::quiet_NaN();
  inputs_TK(8, 18) = std::numeric_limits<float>::infinity();
  const quant::InputStats stats = collect(inputs_TK, 5);
  EXPECT_EQ(stats.tokens, 28);
  EXPECT_EQ(stats.nonfinite_tokens, 2);
  EXPECT_TRUE(std::isfinite(stats.gram_KK(0, 18)));
}

TEST(StatsCollector, IsEmptyAfterItHasFinished) {
  StatsCollector collector(kFeatures, cpu());
  const Matrix<float> inputs_TK = test::normal_matrix(10, kFeatures, 4);
  collector.add(view_of(inputs_TK.view()));
  const quant::InputStats first = collector.finish();
  EXPECT_TRUE(collector.finish().empty());
  collector.add(view_of(inputs_TK.view()));
  EXPECT_TRUE(test::same_bytes(collector.finish().gram_KK, first.gram_KK));
}

TEST(StatsCollector, RefusesRowsOfAnotherWidth) {
  StatsCollector collector(kFeatures, cpu());
  const Matrix<float> inputs_TK(2, kFeatures + 1);
  try {
    collector.add(view_of(inputs_TK.view()));
    FAIL();
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), ::testing::HasSubstr("20 features, expected 19"));
  }
}

TEST(InputStats, MeanSquareIsTheDiagonalOverTokens) {
  Matrix<float> inputs_TK(2, kFeatures);
  inputs_TK(0, 3) = 3.0f;
  inputs_TK(1, 3) = -1.0f;
  const std::vector<float> mean_square_K = collect(inputs_TK, 2).mean_square_K();
  ASSERT_EQ(mean_square_K.size(), static_cast<std::size_t>(kFeatures));
  EXPECT_EQ(mean_square_K[3], 5.0f);
  EXPECT_EQ(mean_square_K[4], 0.0f);
}

TEST(InputStats, MeanSquareIsEmptyWithoutTokens) {
  EXPECT_TRUE(quant::InputStats{}.mean_square_K().empty());
}

}  // namespace
}  // namespace calque::calib
