// Weights that a grid cannot reach are refused by every rounder; nothing is cut off, and no scale
// is infinite.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "calque/core/error.h"
#include "calque/core/finite.h"
#include "calque/ggml/blocks.h"
#include "calque/quant/methods.h"
#include "quant/site_samples.h"

namespace calque::quant {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

constexpr Index kRows = 3;
constexpr Index kColumns = 256;
constexpr Index kRow = 1;
constexpr Index kColumn = 201;

std::vector<Grid> grids() {
  std::vector<Grid> all;
  for (const ggml::TypeInfo& info : ggml::types())
    if (info.quantized()) all.push_back(block_grid(info.type));
  for (const int bits : {2, 3, 4, 8})
    for (const OffsetKind kind :
         {OffsetKind::kMiddleCode, OffsetKind::kZeroPoint, OffsetKind::kMinimum})
      for (const ScalePrecision precision : {ScalePrecision::kF16, ScalePrecision::kF16AndBF16})
        all.push_back(
            {.bits = bits, .group_size = 64, .offset_kind = kind, .precision = precision});
  all.push_back({.bits = 4, .group_size = 64, .desc_act = true});
  return all;
}

Matrix<float> weights_with(float large) {
  Matrix<float> weight = test::normal_matrix(kRows, kColumns, 3, 0.02f);
  weight(kRow, kColumn) = large;
  return weight;
}

const InputStats& sample_stats() {
  static const InputStats kStats = test::stats_of(test::correlated_inputs(700, kColumns, 8, 1));
  return kStats;
}

struct Way {
  const char* name;
  const Rounding* rounding;
  ScaleRule rule;
  bool calibrated;
  int passes;
};

std::vector<Way> ways() {
  return {{"RtnAlone", &kRtn, ScaleRule::kMinMax, false, 0},
          {"RtnFullRange", &kRtn, ScaleRule::kFullRange, false, 0},
          {"RtnSearch", &kRtn, ScaleRule::kSearch, true, 0},
          {"RtnBlockSearch", &kRtn, ScaleRule::kBlockSearch, true, 0},
          {"GptqAlone", &kGptq, ScaleRule::kSearch, false, 2},
          {"Gptq", &kGptq, ScaleRule::kSearch, true, 0},
          {"GptqRefined", &kGptq, ScaleRule::kSearch, true, 2}};
}

class LargeWeights : public ::testing::TestWithParam<Way> {
 protected:
  static Rounded round(const Matrix<float>& weight, const Grid& grid) {
    const Way& way = GetParam();
    RoundingOptions options{.refine_passes = way.passes};
    options.scale_rule = way.rule;
    return way.rounding->make(options)(way.calibrated ? sample_stats().clone() : InputStats(),
                                       open_exec("cpu", 2))(weight.clone(), grid);
  }
};

// Half the distance of two codes: that of the ends with 2 bits or three levels is 2/3 of the range.
// Beside a weight x at the largest level L of a group of vectors the others are at the smallest, l,
// at least: least squares then give x the value x L^2 / (L^2 + (group - 1) l^2).
float tolerance(const Grid& grid) {
  const ggml::VectorStructure* vectors = grid.block ? ggml::vectors_of(*grid.block) : nullptr;
  float largest = 0, smallest = std::numeric_limits<float>::infinity();
  if (vectors != nullptr)
    for (const float point : vectors->points) {
      largest = std::max(largest, std::abs(point) + vectors->shift);
      smallest = std::min(smallest, std::abs(std::abs(point) - vectors->shift));
    }
  if (vectors == nullptr) return 0.36f;
  const float others = static_cast<float>(vectors->group - 1) * smallest * smallest;
  return std::max(0.36f, 1.0f - largest * largest / (largest * largest + others));
}

TEST_P(LargeWeights, AreReachedOrRefusedByName) {
  for (const Grid& grid : grids())
    for (const float size : {7e4f, 1e6f, 1e7f, 1e8f, 1e15f, 1e22f, 3e38f})
      for (const float large : {-size, size}) {
        const Matrix<float> weight = weights_with(large);
        const std::string what = grid.description() + " " + std::to_string(large);
        try {
          const Rounded rounded = round(weight, grid);
          const Matrix<float> back = dequantize(rounded.matrix);
          EXPECT_TRUE(all_finite<float>({back.data(), static_cast<std::size_t>(back.size())}))
              << what;
          EXPECT_NEAR(back(kRow, kColumn) / large, 1.0f, tolerance(grid)) << what;
          EXPECT_TRUE(std::isfinite(rounded.report.relative_error)) << what;
          EXPECT_TRUE(std::isfinite(rounded.report.loss)) << what;
        } catch (const Error& error) {
          EXPECT_EQ(error.code(), "E402") << what << ": " << error.what();
          EXPECT_THAT(error.what(), AllOf(HasSubstr("row 1, column 201: "), HasSubstr("too large")))
              << what;
        }
      }
}

INSTANTIATE_TEST_SUITE_P(All, LargeWeights, ::testing::ValuesIn(ways()),
                         [](const auto& tested) { return std::string(tested.param.name); });

// 65504, the largest binary16, times 8: code 0 of a symmetric grid of 4 bits stands for -8.
TEST(LargeWeight, ReachExactlyTheLastScale) {
  const Grid grid = {.bits = 4, .group_size = 64};
  RoundingOptions options;
  options.scale_rule = ScaleRule::kFullRange;
  const auto round = [&](float large) {
    return make_rtn(options)(InputStats(), open_exec("cpu", 1))(weights_with(large), grid);
  };
  EXPECT_EQ(dequantize(round(524032.0f).matrix)(kRow, kColumn), 524032.0f);
  EXPECT_EQ(dequantize(round(-524032.0f).matrix)(kRow, kColumn), -524032.0f);
  EXPECT_THROW(round(600000.0f), UnreachableWeight);
}

TEST(LargeWeight, AreNamedByTheirRowInTheMatrix) {
  const auto fails = [] { throw UnreachableWeight(3, 7, "too large"); };
  try {
    counted_from(512, fails);
    FAIL();
  } catch (const UnreachableWeight& error) {
    EXPECT_STREQ(error.what(), "row 515, column 7: too large");
  }
}

}  // namespace
}  // namespace calque::quant
