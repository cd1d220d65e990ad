#include <gtest/gtest.h>

#include <algorithm>

#include "calque/kernels/gram.h"
#include "calque/quant/methods.h"
#include "quant/site_samples.h"

// Groups in activation order.

namespace calque::quant {
namespace {

constexpr Index kRows = 45;
constexpr Index kColumns = 192;

Exec cpu() { return open_exec("cpu", 2); }

quant::InputStats sample_stats() {
  return test::stats_of(test::correlated_inputs(700, kColumns, 8, 61));
}

Rounded round(const Rounder& rounder, const quant::InputStats& stats,
              const Matrix<float>& weight_NK, const Grid& grid) {
  return rounder(stats.clone(), cpu())(weight_NK.clone(), grid);
}

Grid activation_ordered(Grid grid) {
  grid.desc_act = true;
  return grid;
}

// Columns that are the smaller the larger their inputs: as in a model whose layers balance them.
Matrix<float> balanced_weight(const quant::InputStats& stats) {
  Matrix<float> weight = test::normal_matrix(kRows, kColumns, 62, 0.02f);
  const std::vector<float> squares = stats.mean_square_K();
  for (Index n = 0; n < kRows; ++n)
    for (Index k = 0; k < kColumns; ++k) weight(n, k) /= std::sqrt(squares[k]);
  return weight;
}

TEST(ActivationOrder, PutsColumnsOfSimilarInputsIntoOneGroup) {
  const quant::InputStats stats = sample_stats();
  const std::vector<float> squares = stats.mean_square_K();
  for (const Rounder& rounder :
       {make_rtn({}), make_gptq({.refine_passes = 0}), make_gptq({.refine_passes = 1})}) {
    const QuantizedMatrix q =
        round(rounder, stats, balanced_weight(stats), {.group_size = 32, .desc_act = true}).matrix;
    ASSERT_EQ(q.groups().group_of_column_K.size(), static_cast<std::size_t>(kColumns));
    std::vector<int> members(6, 0);
    for (const std::int32_t group : q.groups().group_of_column_K) {
      ASSERT_GE(group, 0);
      ASSERT_LT(group, 6);
      ++members[static_cast<std::size_t>(group)];
    }
    EXPECT_EQ(members, std::vector<int>(6, 32));
    for (Index a = 0; a < kColumns; ++a)
      for (Index b = 0; b < kColumns; ++b)
        if (squares[a] > squares[b]) {
          EXPECT_LE(q.groups().group_of_column_K[a], q.groups().group_of_column_K[b]);
        }
  }
}

struct Permuted {
  quant::InputStats stats;
  Matrix<float> weight;
};

// The same problem with columns by falling mean square.
Permuted in_falling_order(const quant::InputStats& stats, const Matrix<float>& weight_NK) {
  const std::vector<float> squares = stats.mean_square_K();
  std::vector<Index> order;
  for (Index k = 0; k < kColumns; ++k) order.push_back(k);
  std::stable_sort(order.begin(), order.end(),
                   [&](Index a, Index b) { return squares[a] > squares[b]; });
  Permuted p = {{.gram_KK = Matrix<float>(kColumns, kColumns), .tokens = stats.tokens},
                Matrix<float>(kRows, kColumns)};
  for (Index i = 0; i < kColumns; ++i) {
    p.stats.magnitude_K.push_back(stats.magnitude_K[order[i]]);
    for (Index j = i; j < kColumns; ++j)
      p.stats.gram_KK(i, j) =
          stats.gram_KK(std::min(order[i], order[j]), std::max(order[i], order[j]));
    for (Index n = 0; n < kRows; ++n) p.weight(n, i) = weight_NK(n, order[i]);
  }
  return p;
}

// The means over channels are summed in another order, so a code may flip where it hardly matters;
// scales chosen by the wrong channels' importance lose some percent.
TEST(ActivationOrder, IsConsecutiveGroupsOfThePermutedProblem) {
  const quant::InputStats stats = sample_stats();
  const Matrix<float> weight = test::normal_matrix(kRows, kColumns, 66, 0.02f);
  const Permuted permuted = in_falling_order(stats, weight);
  const Grid grid = {.bits = 3, .group_size = 32};
  for (const ScaleRule rule : {ScaleRule::kSearch, ScaleRule::kBlockSearch})
    for (const Rounder& rounder :
         {make_rtn({.scale_rule = rule}), make_gptq({.scale_rule = rule, .refine_passes = 0}),
          make_gptq({.scale_rule = rule, .refine_passes = 2})}) {
      const double loss = round(rounder, permuted.stats, permuted.weight, grid).report.loss;
      EXPECT_NEAR(round(rounder, stats, weight, activation_ordered(grid)).report.loss, loss,
                  1e-3 * loss);
    }
}

// The tolerance of the same test for every rounder (rounders_test.cpp).
TEST(ActivationOrder, ReportsTheLossOfWhatItDequantizesTo) {
  const quant::InputStats stats = sample_stats();
  const Matrix<float> weight = balanced_weight(stats);
  for (const ScaleRule rule : {ScaleRule::kSearch, ScaleRule::kBlockSearch})
    for (const OffsetKind kind :
         {OffsetKind::kMiddleCode, OffsetKind::kZeroPoint, OffsetKind::kMinimum})
      for (const Rounder& rounder :
           {make_rtn({.scale_rule = rule}), make_gptq({.scale_rule = rule, .refine_passes = 0}),
            make_gptq({.scale_rule = rule, .refine_passes = 2})}) {
        const Rounded rounded =
            round(rounder, stats, weight,
                  {.bits = 3, .group_size = 64, .offset_kind = kind, .desc_act = true});
        Matrix<float> error = dequantize(rounded.matrix);
        for (Index i = 0; i < error.size(); ++i) error.data()[i] -= weight.data()[i];
        const double loss = gram_energy(error, stats.gram_KK, cpu()) / 700;
        EXPECT_NEAR(rounded.report.loss, loss, 2e-4 * loss);
        EXPECT_LT(rounded.report.relative_error, 0.1);
      }
}

TEST(ActivationOrder, GainsWhereColumnsDiffer) {
  const quant::InputStats stats = sample_stats();
  const Matrix<float> weight = balanced_weight(stats);
  for (const int bits : {3, 4}) {
    const Grid grid = {.bits = bits, .group_size = 32};
    for (const Rounder& rounder :
         {make_rtn({}), make_gptq({.refine_passes = 0}), make_gptq({.refine_passes = 2})})
      EXPECT_LT(round(rounder, stats, weight, activation_ordered(grid)).report.loss,
                round(rounder, stats, weight, grid).report.loss);
  }
}

TEST(ActivationOrder, GptqBeatsRoundingToNearest) {
  const quant::InputStats stats = sample_stats();
  const Matrix<float> weight = balanced_weight(stats);
  for (const Index group : {32, 64, -1}) {
    const Grid grid = {.bits = 3, .group_size = group, .desc_act = true};
    EXPECT_LT(round(make_gptq({.refine_passes = 0}), stats, weight, grid).report.loss,
              0.7 * round(make_rtn({}), stats, weight, grid).report.loss);
  }
}

TEST(ActivationOrder, HasOneGroupForWholeRows) {
  const quant::InputStats stats = sample_stats();
  const Matrix<float> weight = balanced_weight(stats);
  for (const Rounder& rounder : {make_rtn({}), make_gptq({.refine_passes = 1})}) {
    const QuantizedMatrix q =
        round(rounder, stats, weight, {.group_size = -1, .desc_act = true}).matrix;
    EXPECT_EQ(q.groups().group_of_column_K, std::vector<std::int32_t>(kColumns, 0));
  }
}

TEST(ActivationOrder, IsTheStoredOrderWithoutStatistics) {
  const Matrix<float> weight = test::normal_matrix(kRows, kColumns, 63);
  for (const Rounder& rounder : {make_rtn({}), make_gptq({.refine_passes = 0})}) {
    const Rounded plain = round(rounder, {}, weight, {.group_size = 32});
    const Rounded ordered = round(rounder, {}, weight, {.group_size = 32, .desc_act = true});
    EXPECT_TRUE(test::same_bytes(plain.matrix.groups().codes_NK, ordered.matrix.groups().codes_NK));
    EXPECT_EQ(ordered.matrix.groups().group_of_column_K, consecutive_groups(kColumns, 32));
  }
}

TEST(BlockSearch, LowersTheLossOfRoundingToNearest) {
  const quant::InputStats stats = sample_stats();
  const Matrix<float> weight = test::normal_matrix(kRows, kColumns, 64, 0.02f);
  for (const OffsetKind kind :
       {OffsetKind::kMiddleCode, OffsetKind::kZeroPoint, OffsetKind::kMinimum}) {
    const Grid grid = {.bits = 3, .group_size = 64, .offset_kind = kind};
    EXPECT_LT(
        round(make_rtn({.scale_rule = ScaleRule::kBlockSearch}), stats, weight, grid).report.loss,
        0.9 * round(make_rtn({}), stats, weight, grid).report.loss);
  }
}

TEST(BlockSearch, IsThePlainSearchWithoutStatistics) {
  const Matrix<float> weight = test::normal_matrix(kRows, kColumns, 65, 0.02f);
  const Grid grid = {.group_size = 64};
  const Rounded plain = round(make_rtn({}), {}, weight, grid);
  const Rounded block = round(make_rtn({.scale_rule = ScaleRule::kBlockSearch}), {}, weight, grid);
  EXPECT_TRUE(test::same_bytes(plain.matrix.groups().scales_NG, block.matrix.groups().scales_NG));
}

}  // namespace
}  // namespace calque::quant
