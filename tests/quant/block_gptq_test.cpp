// GPTQ on GGUF's block types: all expected values from the definition of the loss, in double, on
// what the stored bytes stand for.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <numeric>

#include "calque/quant/methods.h"
#include "quant/site_samples.h"

namespace calque::quant {
namespace {

constexpr Index kRows = 70;  // more than one panel of 64, and not a multiple of it

// Made once for all tests.
const quant::InputStats& stats_for(Index columns) {
  static std::map<Index, quant::InputStats> made;
  if (const auto found = made.find(columns); found != made.end()) return found->second;
  return made[columns] = test::stats_of(test::correlated_inputs(columns + 100, columns, 6, 71));
}

// Inputs that are uncorrelated and of equal size: H = I without damping.
quant::InputStats white_stats(Index columns) {
  quant::InputStats stats;
  stats.gram_KK = Matrix<float>(columns, columns);
  stats.magnitude_K.assign(static_cast<std::size_t>(columns), 4.0);
  stats.tokens = 4;
  for (Index k = 0; k < columns; ++k) stats.gram_KK(k, k) = 4.0f;
  return stats;
}

// e G e^T / tokens of each row.
std::vector<double> losses_of(const Matrix<float>& weight_NK, const QuantizedMatrix& q,
                              const quant::InputStats& stats, double damp = 0) {
  const Matrix<float> values_NK = dequantize(q);
  double mean = 0;
  for (Index k = 0; k < weight_NK.cols(); ++k)
    mean += static_cast<double>(stats.gram_KK(k, k)) / static_cast<double>(weight_NK.cols());
  std::vector<double> losses;
  for (Index n = 0; n < weight_NK.rows(); ++n) {
    double loss = 0;
    for (Index i = 0; i < weight_NK.cols(); ++i) {
      const double e = static_cast<double>(weight_NK(n, i)) - values_NK(n, i);
      double product = e * (static_cast<double>(stats.gram_KK(i, i)) + damp * mean);
      for (Index j = i + 1; j < weight_NK.cols(); ++j)
        product +=
            2.0 * stats.gram_KK(i, j) * (static_cast<double>(weight_NK(n, j)) - values_NK(n, j));
      loss += e * product;
    }
    losses.push_back(loss / static_cast<double>(stats.tokens));
  }
  return losses;
}

std::vector<double> squared_errors(const Matrix<float>& weight_NK, const QuantizedMatrix& q) {
  return losses_of(weight_NK, q, white_stats(weight_NK.cols()));
}

double total(const std::vector<double>& losses) {
  return std::accumulate(losses.begin(), losses.end(), 0.0);
}

struct Case {
  ggml::Type block;
  Index columns;
};

class BlockGptq : public ::testing::TestWithParam<Case> {
 protected:
  Matrix<float> weight_ = test::normal_matrix(kRows, GetParam().columns, 72, 0.05f);
  const quant::InputStats& stats_ = stats_for(GetParam().columns);
  const quant::InputStats none_;

  Rounded round(const Rounder& rounder, const quant::InputStats& stats, int threads = 2) const {
    return rounder(stats.clone(), open_exec("cpu", threads))(weight_.clone(),
                                                             block_grid(GetParam().block));
  }
};

// gram_energy and refinement keep sums of K products in fp32, the latter through some K updates a
// pass; all relative to the loss before, of which a tenth may be left.
TEST_P(BlockGptq, HalvesTheLossOfTheReferenceAndReportsIt) {
  const Rounded reference = round(make_rtn({}), stats_);
  ASSERT_EQ(reference.report.method, "imatrix");
  for (const bool act_order : {true, false}) {
    const Rounded rounded = round(make_gptq({.act_order = act_order, .refine_passes = 4}), stats_);
    const double loss = total(losses_of(weight_, rounded.matrix, stats_));
    EXPECT_LT(loss, 0.5 * reference.report.loss);
    const double tolerance = 10 * static_cast<double>(weight_.cols()) * 0x1p-24;
    EXPECT_NEAR(rounded.report.loss, loss, tolerance * reference.report.loss);
    EXPECT_NEAR(rounded.report.relative_error / reference.report.relative_error,
                loss / reference.report.loss, tolerance);
    EXPECT_EQ(rounded.report.method, "gptq");
    EXPECT_EQ(rounded.report.fallback_reason, "");
    EXPECT_EQ(rounded.report.damp_percent, 0.01);
  }
}

TEST_P(BlockGptq, ImprovesOnTheReferenceByTheSweepAlone) {
  const double swept =
      total(losses_of(weight_, round(make_gptq({.refine_passes = 0}), stats_).matrix, stats_));
  const double refined =
      total(losses_of(weight_, round(make_gptq({.refine_passes = 1}), stats_).matrix, stats_));
  EXPECT_LT(swept, round(make_rtn({}), stats_).report.loss);
  EXPECT_LT(refined, swept);
}

// Rows are kept by the loss with the damped H, in fp32.
TEST_P(BlockGptq, IsNeverWorseForAnotherRoundInAnyRow) {
  const Rounder one = make_gptq({.refine_passes = 2, .rounds = 1});
  const Rounder two = make_gptq({.refine_passes = 2, .rounds = 2});
  const auto first = losses_of(weight_, round(one, stats_).matrix, stats_, 0.01);
  const auto second = losses_of(weight_, round(two, stats_).matrix, stats_, 0.01);
  for (std::size_t n = 0; n < first.size(); ++n) EXPECT_LE(second[n], first[n] * 1.001) << n;
  EXPECT_LT(total(second), total(first));
}

// H = I: the sweep rounds to nearest on the reference's scales, and refinement starts there.
TEST_P(BlockGptq, LowersTheSquaredErrorOfEveryRowWhereInputsAreWhite) {
  const quant::InputStats white = white_stats(weight_.cols());
  const Rounder gptq = make_gptq({.damp_percent = 0, .refine_passes = 2});
  const auto rounded = squared_errors(weight_, round(gptq, white).matrix);
  const auto reference = squared_errors(weight_, round(make_rtn({}), white).matrix);
  for (std::size_t n = 0; n < rounded.size(); ++n)
    EXPECT_LE(rounded[n], reference[n] * (1 + 1e-6)) << n;
  EXPECT_LT(total(rounded), total(reference));
}

TEST_P(BlockGptq, LowersTheSquaredErrorOfEveryRowWithoutStatistics) {
  const Rounded refined = round(make_gptq({.refine_passes = 4}), none_);
  const Rounded plain = round(make_rtn({}), none_);
  const auto errors = squared_errors(weight_, refined.matrix);
  const auto reference = squared_errors(weight_, plain.matrix);
  for (std::size_t n = 0; n < errors.size(); ++n)
    EXPECT_LE(errors[n], reference[n] * (1 + 1e-6)) << n;
  EXPECT_LT(refined.report.relative_error, plain.report.relative_error);
  EXPECT_NEAR(refined.report.relative_error / plain.report.relative_error,
              total(errors) / total(reference), 1e-6);
  EXPECT_EQ(refined.report.fallback_reason, "");
  const Rounded unrefined = round(make_gptq({.refine_passes = 0}), none_);
  EXPECT_TRUE(test::same_bytes(unrefined.matrix.blocks().rows_NB, plain.matrix.blocks().rows_NB));
}

TEST_P(BlockGptq, DoesNotDependOnTheNumberOfThreads) {
  const Rounder gptq = make_gptq({.refine_passes = 2});
  const Rounded one = round(gptq, stats_, 1), three = round(gptq, stats_, 3);
  EXPECT_TRUE(test::same_bytes(one.matrix.blocks().rows_NB, three.matrix.blocks().rows_NB));
  EXPECT_EQ(one.report.loss, three.report.loss);
}

INSTANTIATE_TEST_SUITE_P(
    Types, BlockGptq,
    ::testing::Values(Case{ggml::Type::kQ2_K, 768}, Case{ggml::Type::kQ3_K, 768},
                      Case{ggml::Type::kQ4_K, 256}, Case{ggml::Type::kQ5_K, 768},
                      Case{ggml::Type::kQ6_K, 256}, Case{ggml::Type::kIQ4_NL, 288},
                      Case{ggml::Type::kIQ4_XS, 768}),
    [](const auto& tested) {
      const std::string name = block_grid(tested.param.block).description();
      return name.substr(0, name.find(' ')) + "_" + std::to_string(tested.param.columns);
    });

class VectorGptq : public ::testing::TestWithParam<ggml::Type> {
 protected:
  static constexpr Index kColumns = 512;
  Matrix<float> weight_ = test::normal_matrix(kRows, kColumns, 72, 0.05f);

  Rounded round(const Rounder& rounder, const quant::InputStats& stats, int threads = 2) const {
    return rounder(stats.clone(), open_exec("cpu", threads))(weight_.clone(),
                                                             block_grid(GetParam()));
  }
};

TEST_P(VectorGptq, LosesLessThanTheReferenceAndReportsIt) {
  const quant::InputStats& stats = stats_for(kColumns);
  const Rounded reference = round(make_rtn({}), stats);
  for (const bool act_order : {true, false}) {
    const Rounded rounded = round(make_gptq({.act_order = act_order, .refine_passes = 4}), stats);
    const double loss = total(losses_of(weight_, rounded.matrix, stats));
    EXPECT_LT(loss, 0.65 * reference.report.loss);
    EXPECT_NEAR(rounded.report.loss, loss,
                10 * static_cast<double>(kColumns) * 0x1p-24 * reference.report.loss);
    EXPECT_EQ(rounded.report.method, "gptq");
  }
}

TEST_P(VectorGptq, IsNeverWorseForAnotherRoundInAnyRow) {
  const quant::InputStats& stats = stats_for(kColumns);
  const Rounder one = make_gptq({.refine_passes = 2, .rounds = 1});
  const Rounder two = make_gptq({.refine_passes = 2, .rounds = 2});
  const auto first = losses_of(weight_, round(one, stats).matrix, stats, 0.01);
  const auto second = losses_of(weight_, round(two, stats).matrix, stats, 0.01);
  for (std::size_t n = 0; n < first.size(); ++n) EXPECT_LE(second[n], first[n] * 1.001) << n;
  EXPECT_LT(total(second), total(first));
}

// The two matrices of a site need factors in different orders.
TEST_P(VectorGptq, GoesWithOtherGridsAtOneSite) {
  const quant::InputStats& stats = stats_for(kColumns);
  const Exec exec = open_exec("cpu", 2);
  const SiteRounder both = make_gptq({.refine_passes = 2})(stats.clone(), exec);
  const Rounded affine = both(weight_.clone(), block_grid(ggml::Type::kQ2_K));
  const Rounded vectors = both(weight_.clone(), block_grid(GetParam()));
  const Rounded alone = round(make_gptq({.refine_passes = 2}), stats);
  EXPECT_TRUE(test::same_bytes(vectors.matrix.blocks().rows_NB, alone.matrix.blocks().rows_NB));
  const double loss = total(losses_of(weight_, affine.matrix, stats));
  EXPECT_NEAR(affine.report.loss, loss, 1e-3 * loss);
}

TEST_P(VectorGptq, IsTheReferenceWithoutStatistics) {
  const Rounded rounded = round(make_gptq({.refine_passes = 2}), {});
  EXPECT_TRUE(test::same_bytes(rounded.matrix.blocks().rows_NB,
                               round(make_rtn({}), {}).matrix.blocks().rows_NB));
}

INSTANTIATE_TEST_SUITE_P(Types, VectorGptq,
                         ::testing::Values(ggml::Type::kIQ1_S, ggml::Type::kIQ1_M,
                                           ggml::Type::kIQ2_XXS, ggml::Type::kIQ2_XS,
                                           ggml::Type::kIQ2_S, ggml::Type::kIQ3_XXS,
                                           ggml::Type::kIQ3_S),
                         [](const auto& tested) {
                           const std::string name = block_grid(tested.param).description();
                           return name.substr(0, name.find(' '));
                         });

TEST(BlockGptqFallback, IsTheReferenceWhereTheHessianIsUnusable) {
  quant::InputStats stats = white_stats(256);
  stats.gram_KK(0, 1) = 400.0f;  // the correlation of two inputs cannot be 100
  const Matrix<float> weight_NK = test::normal_matrix(3, 256, 73);
  const Exec exec = open_exec("cpu", 1);
  const Rounder gptq = make_gptq({.refine_passes = 2});
  const Rounded rounded =
      gptq(stats.clone(), exec)(weight_NK.clone(), block_grid(ggml::Type::kQ4_K));
  const Rounded reference =
      make_rtn({})(stats.clone(), exec)(weight_NK.clone(), block_grid(ggml::Type::kQ4_K));
  EXPECT_TRUE(test::same_bytes(rounded.matrix.blocks().rows_NB, reference.matrix.blocks().rows_NB));
  EXPECT_EQ(rounded.report.method, "imatrix");
  EXPECT_THAT(rounded.report.fallback_reason, ::testing::HasSubstr("not positive definite"));
}

TEST(BlockGptqFallback, IsTheReferenceForTypesWithoutScaleCodes) {
  const Matrix<float> weight_NK = test::normal_matrix(3, 256, 73);
  const Exec exec = open_exec("cpu", 1);
  for (const ggml::Type block : {ggml::Type::kTQ2_0, ggml::Type::kMXFP4, ggml::Type::kQ8_0}) {
    const Rounder gptq = make_gptq({.refine_passes = 2});
    const Rounded rounded =
        gptq(stats_for(256).clone(), exec)(weight_NK.clone(), block_grid(block));
    const Rounded reference =
        make_rtn({})(stats_for(256).clone(), exec)(weight_NK.clone(), block_grid(block));
    EXPECT_TRUE(
        test::same_bytes(rounded.matrix.blocks().rows_NB, reference.matrix.blocks().rows_NB));
    EXPECT_EQ(rounded.report.method, "imatrix");
  }
}

// An importance matrix from elsewhere says nothing about correlations.
TEST(BlockGptqFallback, IsTheReferenceWhereOnlyMeanSquaresAreKnown) {
  quant::InputStats given;
  for (int k = 0; k < 256; ++k)
    given.given_mean_square_K.push_back(1.0f + static_cast<float>(k % 7));
  const Matrix<float> weight_NK = test::normal_matrix(3, 256, 73);
  const Exec exec = open_exec("cpu", 1);
  const Rounder gptq = make_gptq({.refine_passes = 2});
  const Rounded rounded =
      gptq(given.clone(), exec)(weight_NK.clone(), block_grid(ggml::Type::kQ2_K));
  const Rounded reference =
      make_rtn({})(given.clone(), exec)(weight_NK.clone(), block_grid(ggml::Type::kQ2_K));
  EXPECT_TRUE(test::same_bytes(rounded.matrix.blocks().rows_NB, reference.matrix.blocks().rows_NB));
  EXPECT_EQ(rounded.report.method, "imatrix");
}

}  // namespace
}  // namespace calque::quant
