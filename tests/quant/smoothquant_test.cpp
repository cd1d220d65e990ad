#include "calque/quant/smoothquant.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <vector>

#include "calque/core/error.h"
#include "quant/site_samples.h"

namespace calque::quant {
namespace {

constexpr Grid kGrid = {.bits = 8, .group_size = -1};

InputStats stats_with_peaks(std::vector<float> largest_K) {
  InputStats stats;
  stats.largest_K = std::move(largest_K);
  stats.tokens = 1;
  return stats;
}

// Peaks 16 and 1, weights 1 and 1/4: proposals 4 and 2, mean sqrt(8).
TEST(SmoothQuant, ShareOfTheInputsSizeMovesIntoTheWeights) {
  Matrix<float> weight(2, 2);
  weight(0, 0) = 0.5f, weight(0, 1) = 0.25f;
  weight(1, 0) = -1.0f, weight(1, 1) = 0.125f;
  const InputStats stats = stats_with_peaks({16.0f, 1.0f});
  const std::vector<float> half = smooth_scales({{weight, kGrid}}, stats, {.alpha = 0.5});
  EXPECT_FLOAT_EQ(half[0], std::sqrt(2.0f));
  EXPECT_FLOAT_EQ(half[1], std::sqrt(0.5f));
  // All of it: proposals 16 and 1.
  const std::vector<float> all = smooth_scales({{weight, kGrid}}, stats, {.alpha = 1.0});
  EXPECT_FLOAT_EQ(all[0], 4.0f);
  EXPECT_FLOAT_EQ(all[1], 0.25f);
  // None of it: 1 / max|w|, 1 and 4.
  const std::vector<float> none = smooth_scales({{weight, kGrid}}, stats, {.alpha = 0.0});
  EXPECT_FLOAT_EQ(none[0], 0.5f);
  EXPECT_FLOAT_EQ(none[1], 2.0f);
}

TEST(SmoothQuant, LargestWeightIsThatOfAllReaders) {
  Matrix<float> first(1, 2), second(1, 2);
  first(0, 0) = 1.0f, first(0, 1) = 1.0f;
  second(0, 0) = 0.5f, second(0, 1) = -4.0f;
  // Proposals sqrt(4 / 1) = 2 and sqrt(4 / 4) = 1.
  const std::vector<float> scales_K =
      smooth_scales({{first, kGrid}, {second, kGrid}}, stats_with_peaks({4.0f, 4.0f}), {});
  EXPECT_FLOAT_EQ(scales_K[0], std::sqrt(2.0f));
  EXPECT_FLOAT_EQ(scales_K[1], std::sqrt(0.5f));
}

TEST(SmoothQuant, ChannelsThatAreAlwaysZeroKeepScaleOneAndDoNotCount) {
  Matrix<float> weight(1, 4);
  weight(0, 0) = 1.0f, weight(0, 1) = 1.0f, weight(0, 2) = 0.0f, weight(0, 3) = 1.0f;
  const std::vector<float> scales_K =
      smooth_scales({{weight, kGrid}}, stats_with_peaks({16.0f, 1.0f, 100.0f, 0.0f}), {});
  EXPECT_FLOAT_EQ(scales_K[0], 2.0f);
  EXPECT_FLOAT_EQ(scales_K[1], 0.5f);
  EXPECT_EQ(scales_K[2], 1.0f);
  EXPECT_EQ(scales_K[3], 1.0f);
}

// Peaks of 2^120 and weights of 2^-120 meet no overflow: logarithms are added.
TEST(SmoothQuant, SizesAtTheEndsOfFloatsAreNoTrouble) {
  Matrix<float> weight(1, 2);
  weight(0, 0) = 0x1p-120f, weight(0, 1) = 0x1p120f;
  const std::vector<float> scales_K =
      smooth_scales({{weight, kGrid}}, stats_with_peaks({0x1p120f, 0x1p-120f}), {});
  EXPECT_FLOAT_EQ(scales_K[0], 0x1p120f);
  EXPECT_FLOAT_EQ(scales_K[1], 0x1p-120f);
}

// With alpha 1/2 a channel has the same largest magnitude in inputs and weights, but for the mean.
TEST(SmoothQuant, HalfMakesInputsAndWeightsEquallyLarge) {
  const Matrix<float> inputs_TK = test::correlated_inputs(50, 12, 3, 5);
  const Matrix<float> weight = test::normal_matrix(9, 12, 6);
  std::vector<float> peaks_K(12, 0.0f), weights_K(12, 0.0f);
  for (Index k = 0; k < 12; ++k) {
    for (Index t = 0; t < 50; ++t) peaks_K[k] = std::max(peaks_K[k], std::abs(inputs_TK(t, k)));
    for (Index n = 0; n < 9; ++n) weights_K[k] = std::max(weights_K[k], std::abs(weight(n, k)));
  }
  const std::vector<float> scales_K =
      smooth_scales({{weight, kGrid}}, stats_with_peaks(peaks_K), {});
  const auto ratio = [&](Index k) {
    return (weights_K[k] * scales_K[k]) / (peaks_K[k] / scales_K[k]);
  };
  // Four roundings to float (2^-24 each) in every ratio.
  for (Index k = 1; k < 12; ++k) EXPECT_NEAR(ratio(k), ratio(0), 8 * 0x1p-24f * ratio(0));
}

TEST(SmoothQuant, NeedsPeaksOfEveryInput) {
  const Matrix<float> weight = test::normal_matrix(3, 4, 7);
  EXPECT_THROW(smooth_scales({{weight, kGrid}}, stats_with_peaks({}), {}), Error);
}

}  // namespace
}  // namespace calque::quant
