#include "calque/kernels/scale_search.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <limits>

#include "calque/core/dtype.h"
#include "calque/core/error.h"
#include "calque/kernels/round_to_grid.h"
#include "kernels/devices.h"
#include "support/samples.h"

namespace calque {
namespace {

struct Found {
  float scale, offset;
  std::vector<float> values;  // the weights on this grid
};

double error_of(const std::vector<float>& weights, const std::vector<float>& importance,
                const std::vector<float>& values) {
  double error = 0;
  for (std::size_t k = 0; k < weights.size(); ++k) {
    const double difference = static_cast<double>(weights[k]) - values[k];
    error += (importance.empty() ? 1.0 : importance[k]) * difference * difference;
  }
  return error;
}

std::vector<float> normal_vector(Index count, std::uint64_t seed, float scale = 1.0f) {
  const Matrix<float> m = test::normal_matrix(1, count, seed, scale);
  return {m.data(), m.data() + count};
}

constexpr OffsetKind kKinds[] = {OffsetKind::kMiddleCode, OffsetKind::kZeroPoint,
                                 OffsetKind::kMinimum};
constexpr ScalePrecision kPrecisions[] = {ScalePrecision::kF32, ScalePrecision::kF16,
                                          ScalePrecision::kBF16, ScalePrecision::kF16AndBF16};
constexpr ScaleRule kRules[] = {ScaleRule::kMinMax, ScaleRule::kFullRange, ScaleRule::kSearch,
                                ScaleRule::kBlockSearch};

class ScaleSearch : public ::testing::TestWithParam<std::string> {
 protected:
  Found search(std::vector<float> weights, const ScaleSearchOptions& options,
               std::vector<float> importance = {}) const {
    const Index count = static_cast<Index>(weights.size());
    const MatrixView<const float> row(weights.data(), 1, count);
    Matrix<float> scale(1, 1), offset(1, 1);
    Matrix<std::uint8_t> codes(1, count);
    scale_search({row, count, options, scale, offset}, importance, exec_);
    round_to_grid(row, {scale, offset, test::groups_of(count, count), (1 << options.bits) - 1},
                  codes, exec_);
    Found found{scale(0, 0), offset(0, 0), {}};
    for (Index k = 0; k < count; ++k)
      found.values.push_back(found.scale * codes(0, k) + found.offset);
    return found;
  }

  Exec exec_ = open_exec(GetParam(), 2);
};

// Hand calculations.
TEST_P(ScaleSearch, MinMaxSpreadsTheCodesOverTheRange) {
  const ScaleSearchOptions symmetric = {.bits = 4, .rule = ScaleRule::kMinMax};
  EXPECT_EQ(search({7.5f, -3.0f}, symmetric).scale, 1.0f);  // 2 * 7.5 / 15
  EXPECT_EQ(search({7.5f, -3.0f}, symmetric).offset, -8.0f);
  ScaleSearchOptions zero_point = symmetric;
  zero_point.offset_kind = OffsetKind::kZeroPoint;
  EXPECT_EQ(search({10.0f, -5.0f}, zero_point).scale, 1.0f);
  EXPECT_EQ(search({10.0f, -5.0f}, zero_point).offset, -5.0f);
  EXPECT_EQ(search({30.0f, 15.0f}, zero_point).scale, 2.0f) << "0 belongs to the range";
  EXPECT_EQ(search({30.0f, 15.0f}, zero_point).offset, 0.0f);
  ScaleSearchOptions minimum = symmetric;
  minimum.offset_kind = OffsetKind::kMinimum;
  EXPECT_EQ(search({10.0f, -5.0f}, minimum).offset, -5.0f);
}

TEST_P(ScaleSearch, FullRangeMakesTheLargestEntryCodeZero) {
  const ScaleSearchOptions options = {.bits = 4, .rule = ScaleRule::kFullRange};
  EXPECT_EQ(search({8.0f, -3.0f}, options).scale, -1.0f);
  EXPECT_EQ(search({8.0f, -3.0f}, options).offset, 8.0f);
  EXPECT_EQ(search({4.0f, -8.0f}, options).scale, 1.0f);
  EXPECT_EQ(search({8.0f, -8.0f}, options).scale, -1.0f) << "the first of equals counts";
  EXPECT_EQ(search({-8.0f, 8.0f}, options).scale, 1.0f);
}

TEST_P(ScaleSearch, GivesBackWeightsThatAreOnAGrid) {
  for (const OffsetKind kind : kKinds)
    for (const int bits : {2, 3, 4, 5, 8}) {
      const int zero = kind == OffsetKind::kZeroPoint ? 1 : 1 << (bits - 1);
      std::vector<float> weights;
      for (int code = 0; code < 1 << bits; ++code)
        weights.push_back(0.0625f * 1.125f * static_cast<float>(code - zero));
      EXPECT_EQ(search(weights, {.bits = bits, .offset_kind = kind}).values, weights)
          << "kind " << static_cast<int>(kind) << ", " << bits << " bits";
    }
}

TEST_P(ScaleSearch, DecodesAGroupOfZerosToZero) {
  for (const OffsetKind kind : kKinds)
    for (const ScalePrecision precision : kPrecisions)
      for (const ScaleRule rule : kRules) {
        const std::vector<float> zeros(40, 0.0f);
        const Found found = search(
            zeros,
            {.bits = 4, .offset_kind = kind, .precision = precision, .min_zero = 1, .rule = rule});
        EXPECT_EQ(found.values, zeros);
        EXPECT_TRUE(std::isnormal(found.scale));
      }
}

TEST_P(ScaleSearch, NeverStoresADenormalOrInfiniteScale) {
  for (const OffsetKind kind : kKinds)
    for (const ScaleRule rule : kRules)
      for (const float size : {1e-30f, 1e-9f, 1e-5f, 1e7f, 1e38f}) {
        std::vector<float> weights = normal_vector(33, 71);
        for (float& w : weights) w = std::clamp(w * size, -3e38f, 3e38f);
        const Found found = search(weights, {.bits = 4, .offset_kind = kind, .rule = rule});
        EXPECT_GE(std::abs(found.scale), 0x1p-14f);
        EXPECT_LE(std::abs(found.scale), 65504.0f);
        for (const float value : found.values) EXPECT_TRUE(std::isfinite(value));
      }
}

TEST_P(ScaleSearch, RoundsToTheStoredPrecision) {
  const std::vector<float> weights = normal_vector(77, 72);
  for (const OffsetKind kind : kKinds)
    for (const ScaleRule rule : kRules) {
      const Found half = search(weights, {.offset_kind = kind, .rule = rule});
      EXPECT_EQ(half.scale, rounded_to_half(half.scale));
      if (kind == OffsetKind::kMinimum) {
        EXPECT_EQ(half.offset, rounded_to_half(half.offset));
      }
      const Found brain =
          search(weights, {.offset_kind = kind, .precision = ScalePrecision::kBF16, .rule = rule});
      EXPECT_EQ(brain.scale, rounded_to_bfloat16(brain.scale));
    }
}

TEST_P(ScaleSearch, KeepsZeroPointsWhereTheyAreAllowed) {
  for (const ScaleRule rule : kRules)
    for (const int sign : {-1, 1})
      for (const int min_zero : {0, 1, 3}) {
        std::vector<float> weights = normal_vector(50, 73);
        for (float& w : weights) w = static_cast<float>(sign) * std::abs(w);
        const Found found = search(
            weights,
            {.bits = 3, .offset_kind = OffsetKind::kZeroPoint, .min_zero = min_zero, .rule = rule});
        const float zero = -found.offset / found.scale;
        EXPECT_EQ(zero, std::rint(zero));
        EXPECT_GE(zero, static_cast<float>(min_zero));
        EXPECT_LE(zero, 7.0f);
        EXPECT_GT(found.scale, 0.0f);
      }
}

TEST_P(ScaleSearch, IsNeverWorseThanWhatItStartsFrom) {
  for (const OffsetKind kind : kKinds)
    for (const int bits : {2, 3, 4, 5, 8})
      for (std::uint64_t seed = 80; seed < 90; ++seed) {
        const std::vector<float> weights = normal_vector(61, seed);
        std::vector<float> importance = normal_vector(61, seed + 100);
        for (float& h : importance) h = std::exp(2 * h);
        ScaleSearchOptions options = {.bits = bits, .offset_kind = kind};
        const double searched =
            error_of(weights, importance, search(weights, options, importance).values);
        options.rule = ScaleRule::kFullRange;
        // Errors are compared in fp32.
        EXPECT_LE(searched, error_of(weights, importance, search(weights, options).values) *
                                (1 + 61 * 0x1p-23));
      }
}

// Against a brute-force scan of 20000 symmetric scales of both signs, in double.
TEST_P(ScaleSearch, ComesCloseToTheBestScale) {
  for (const int bits : {2, 3, 4}) {
    double searched = 0, best = 0;
    for (std::uint64_t seed = 90; seed < 100; ++seed) {
      const std::vector<float> weights = normal_vector(128, seed);
      const ScaleSearchOptions options = {.bits = bits, .precision = ScalePrecision::kF32};
      searched += error_of(weights, {}, search(weights, options).values);
      double smallest = 1e30;
      for (int step = -10000; step <= 10000; ++step) {
        const double scale = step * 2e-4;
        if (step == 0) continue;
        double error = 0;
        for (const float w : weights) {
          const double half = 1 << (bits - 1);
          const double q = std::clamp(std::rint(w / scale), -half, half - 1);
          error += (w - scale * q) * (w - scale * q);
        }
        smallest = std::min(smallest, error);
      }
      best += smallest;
    }
    EXPECT_GE(searched, best * (1 - 1e-3)) << bits;
    EXPECT_LE(searched, best * 1.02) << bits;
  }
}

TEST_P(ScaleSearch, ListensToImportance) {
  const std::vector<float> weights = normal_vector(64, 101);
  std::vector<float> importance(64, 1.0f);
  importance[17] = 1e6f;
  const Found plain = search(weights, {.bits = 3});
  const Found weighted = search(weights, {.bits = 3}, importance);
  EXPECT_LT(std::abs(weighted.values[17] - weights[17]), 1e-3f);
  EXPECT_GT(std::abs(plain.values[17] - weights[17]), 1e-2f);
}

TEST_P(ScaleSearch, SurvivesImportanceOfZero) {
  const std::vector<float> weights = normal_vector(32, 102);
  for (const OffsetKind kind : kKinds) {
    const Found found = search(weights, {.offset_kind = kind}, std::vector<float>(32, 0.0f));
    EXPECT_TRUE(std::isfinite(found.scale) && std::isfinite(found.offset));
  }
}

TEST_P(ScaleSearch, TreatsRowsAndGroupsAlone) {
  const Matrix<float> weight = test::normal_matrix(21, 72, 103);
  Matrix<float> scales(21, 3), offsets(21, 3);
  scale_search({weight, 24, {.bits = 3}, scales, offsets}, {}, exec_);
  const std::vector<float> group(weight.row(13) + 24, weight.row(13) + 48);
  EXPECT_EQ(scales(13, 1), search(group, {.bits = 3}).scale);
}

TEST_P(ScaleSearch, DoesNotDependOnTheNumberOfThreads) {
  const Matrix<float> weight = test::normal_matrix(53, 96, 104);
  for (const OffsetKind kind : kKinds) {
    Matrix<float> one(53, 3), three(53, 3), offsets_one(53, 3), offsets_three(53, 3);
    scale_search({weight, 32, {.offset_kind = kind}, one, offsets_one}, {},
                 open_exec(GetParam(), 1));
    scale_search({weight, 32, {.offset_kind = kind}, three, offsets_three}, {},
                 open_exec(GetParam(), 3));
    EXPECT_TRUE(test::same_bytes(one, three) && test::same_bytes(offsets_one, offsets_three));
  }
}

TEST_P(ScaleSearch, RefusesAGroupSizeThatDoesNotDivide) {
  Matrix<float> weight(2, 10), scales(2, 3), offsets(2, 3);
  EXPECT_THROW(scale_search({weight, 3, {}, scales, offsets}, {}, exec_), Error);
}

CALQUE_ON_EVERY_DEVICE(ScaleSearch);

}  // namespace
}  // namespace calque
