#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>

#include "calque/quant/methods.h"
#include "quant/site_samples.h"

namespace calque::quant {
namespace {

using ::testing::HasSubstr;

constexpr Index kRows = 45;
constexpr Index kColumns = 192;
const Grid kGrid = {.bits = 3, .group_size = 32};

Exec cpu() { return open_exec("cpu", 2); }

Matrix<float> sample_weight() { return test::normal_matrix(kRows, kColumns, 21, 0.02f); }
quant::InputStats sample_stats() {
  return test::stats_of(test::correlated_inputs(700, kColumns, 8, 22));
}

RoundingReport report_of(const Rounder& rounder, const quant::InputStats& stats,
                         const Grid& grid = kGrid) {
  return rounder(stats.clone(), cpu())(sample_weight(), grid).report;
}

TEST(Gptq, BeatsRoundingToNearestOnEveryGrid) {
  const quant::InputStats stats = sample_stats();
  for (const int bits : {2, 3, 4, 5, 8})
    for (const Index group : {32, 64, -1})
      for (const OffsetKind kind :
           {OffsetKind::kMiddleCode, OffsetKind::kZeroPoint, OffsetKind::kMinimum}) {
        const Grid grid = {.bits = bits, .group_size = group, .offset_kind = kind};
        EXPECT_LT(report_of(make_gptq({.refine_passes = 0}), stats, grid).loss,
                  0.7 * report_of(make_rtn({}), stats, grid).loss)
            << grid.description();
      }
}

TEST(Gptq, GainsFromVisitingImportantColumnsFirst) {
  const quant::InputStats stats = sample_stats();
  EXPECT_LT(report_of(make_gptq({.refine_passes = 0}), stats).loss,
            report_of(make_gptq({.act_order = false, .refine_passes = 0}), stats).loss);
}

TEST(Gptq, GainsFromRefinement) {
  const quant::InputStats stats = sample_stats();
  const double swept = report_of(make_gptq({.refine_passes = 0}), stats).loss;
  const double once = report_of(make_gptq({.refine_passes = 1}), stats).loss;
  EXPECT_LT(once, swept);
  EXPECT_LE(report_of(make_gptq({.refine_passes = 3}), stats).loss, once * (1 + 1e-6));
}

// Four tokens cannot span 192 inputs: without damping H is singular.
TEST(Gptq, RaisesTheDampingUntilTheHessianCanBeFactored) {
  const quant::InputStats stats = test::stats_of(test::correlated_inputs(4, kColumns, 3, 23));
  const RoundingReport report = report_of(
      make_gptq({.damp_percent = 0, .damp_auto_increment = 0.02, .refine_passes = 0}), stats);
  EXPECT_EQ(report.method, "gptq");
  EXPECT_EQ(report.damp_percent, 0.02);
}

TEST(Gptq, FallsBackToRoundingToNearestAndSaysSo) {
  const quant::InputStats stats = test::stats_of(test::correlated_inputs(4, kColumns, 3, 23));
  const RoundingReport report = report_of(
      make_gptq({.damp_percent = 0, .damp_auto_increment = 0, .refine_passes = 0}), stats);
  EXPECT_EQ(report.method, "rtn");
  EXPECT_THAT(report.fallback_reason, HasSubstr("not positive definite"));
  EXPECT_THAT(report.fallback_reason, HasSubstr("192 inputs over 4 tokens"));
  EXPECT_EQ(report.loss, report_of(make_rtn({}), stats).loss);
}

TEST(Gptq, FallsBackWithoutUsableStatistics) {
  EXPECT_EQ(report_of(make_gptq({.refine_passes = 0}), {}).fallback_reason,
            "no calibration statistics");

  quant::InputStats broken = sample_stats();
  broken.gram_KK(5, 9) = std::numeric_limits<float>::infinity();
  EXPECT_THAT(report_of(make_gptq({.refine_passes = 0}), broken).fallback_reason,
              HasSubstr("not positive definite"));

  broken.gram_KK(7, 7) = std::numeric_limits<float>::quiet_NaN();
  EXPECT_THAT(report_of(make_gptq({.refine_passes = 0}), broken).fallback_reason,
              HasSubstr("is nan"));

  const quant::InputStats silent = test::stats_of(Matrix<float>(10, kColumns));
  EXPECT_THAT(report_of(make_gptq({.refine_passes = 0}), silent).fallback_reason,
              HasSubstr("mean square"));
}

TEST(Gptq, RoundsColumnsThatNeverSawAnInput) {
  Matrix<float> inputs_TK = test::correlated_inputs(700, kColumns, 8, 24);
  for (Index t = 0; t < 700; ++t) inputs_TK(t, 3) = inputs_TK(t, 100) = 0.0f;
  const quant::InputStats stats = test::stats_of(inputs_TK);
  for (const double damping : {0.0, 0.01}) {
    const Matrix<float> weight = sample_weight();
    const Rounded rounded = make_gptq({.damp_percent = damping, .refine_passes = 0})(
        stats.clone(), cpu())(weight.clone(), kGrid);
    EXPECT_EQ(rounded.report.method, "gptq");
    EXPECT_EQ(rounded.report.dead_columns, 2);
    const Matrix<float> values = dequantize(rounded.matrix);
    // Nearest value of its group's grid: at most half a step away, unless clipped at its ends.
    for (Index n = 0; n < kRows; ++n)
      for (const Index k : {3, 100}) {
        const int code = rounded.matrix.groups().codes_NK(n, k);
        if (code == 0 || code == kGrid.max_code()) continue;
        const float step = std::abs(rounded.matrix.groups().scales_NG(n, k / 32));
        EXPECT_LE(std::abs(values(n, k) - weight(n, k)), 0.5001f * step);
      }
  }
}

TEST(Gptq, RoundsSeveralMatricesOfOneSite) {
  const quant::InputStats stats = sample_stats();
  const SiteRounder site = make_gptq({.refine_passes = 0})(stats.clone(), cpu());
  const Rounded first = site(sample_weight(), kGrid);
  site(test::normal_matrix(5, kColumns, 25), {.bits = 4, .group_size = -1});
  const Rounded again = site(sample_weight(), kGrid);
  EXPECT_TRUE(test::same_bytes(first.matrix.groups().codes_NK, again.matrix.groups().codes_NK));
}

TEST(Gptq, ReportsTheDampingOfTheJobFile) {
  EXPECT_EQ(
      report_of(make_gptq({.damp_percent = 0.05, .refine_passes = 0}), sample_stats()).damp_percent,
      0.05);
}

void expect_same(const QuantizedMatrix& a, const QuantizedMatrix& b) {
  if (a.grid.block) {
    EXPECT_TRUE(test::same_bytes(a.blocks().rows_NB, b.blocks().rows_NB));
    return;
  }
  EXPECT_TRUE(test::same_bytes(a.groups().codes_NK, b.groups().codes_NK));
  EXPECT_TRUE(test::same_bytes(a.groups().scales_NG, b.groups().scales_NG));
  EXPECT_TRUE(test::same_bytes(a.groups().offsets_NG, b.groups().offsets_NG));
  EXPECT_EQ(a.groups().group_of_column_K, b.groups().group_of_column_K);
}

// 300 rows in strips of 128, 128 and 44, against all in one.
TEST(Gptq, GivesTheSameCodesStripByStrip) {
  const Matrix<float> weight = test::normal_matrix(300, 256, 25, 0.02f);
  const quant::InputStats stats = test::stats_of(test::correlated_inputs(700, 256, 8, 26));
  const Grid grids[] = {kGrid,
                        {.bits = 4, .group_size = 64, .offset_kind = OffsetKind::kMinimum},
                        {.bits = 4, .group_size = 32, .desc_act = true},
                        {.block = ggml::Type::kQ4_K}};
  for (const Grid& grid : grids) {
    const Rounded whole =
        make_gptq({.refine_passes = 2})(stats.clone(), cpu())(weight.clone(), grid);
    const Rounded strips = make_gptq({.refine_passes = 2, .strip_weights = 1})(
        stats.clone(), cpu())(weight.clone(), grid);
    expect_same(whole.matrix, strips.matrix);
    // Sums of doubles in another order.
    EXPECT_NEAR(strips.report.loss / whole.report.loss, 1, 1e-12) << grid.description();
    EXPECT_NEAR(strips.report.relative_error / whole.report.relative_error, 1, 1e-12);
  }
}

}  // namespace
}  // namespace calque::quant
