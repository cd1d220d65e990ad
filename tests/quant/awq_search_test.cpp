#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "calque/core/dtype.h"
#include "calque/core/error.h"
#include "calque/quant/awq.h"
#include "quant/site_samples.h"

namespace calque::quant {
namespace {

constexpr Index kColumns = 96;
const Grid kGrid = {.bits = 4, .group_size = 32, .offset_kind = OffsetKind::kZeroPoint};

Exec cpu() { return open_exec("cpu", 2); }

quant::InputStats sample_stats() {
  return test::stats_of(test::correlated_inputs(300, kColumns, 6, 31));
}

// One channel of the inputs is thirty times as large as the others.
quant::InputStats stats_with_salient_channel(Index salient) {
  Matrix<float> inputs_TK = test::normal_matrix(300, kColumns, 32);
  for (Index t = 0; t < 300; ++t) inputs_TK(t, salient) *= 30.0f;
  return test::stats_of(inputs_TK);
}

struct Loss {
  double value = 0;
  double absolute = 0;  // sum |e_i G_ij e_j|
};

// tr(E G E^T), E = Q(W s) / s - W with min-max zero-point grids, by the definition, in double but
// for the rounding itself.
Loss loss_of(const Matrix<float>& weight_NK, const std::vector<float>& scales_K,
             const quant::InputStats& stats, const std::vector<Index>& rows) {
  Loss loss;
  for (const Index n : rows) {
    std::vector<double> error(kColumns);
    for (Index begin = 0; begin < kColumns; begin += 32) {
      std::vector<float> scaled;
      for (Index k = begin; k < begin + 32; ++k) scaled.push_back(weight_NK(n, k) * scales_K[k]);
      const float low = std::min(0.0f, *std::min_element(scaled.begin(), scaled.end()));
      const float high = std::max(0.0f, *std::max_element(scaled.begin(), scaled.end()));
      const float scale = rounded_to_half(high / 15.0f - low / 15.0f);
      const float offset = -scale * std::rint(std::clamp(-low / scale, 0.0f, 15.0f));
      for (Index k = begin; k < begin + 32; ++k) {
        const float position = (scaled[k - begin] - offset) / scale;
        const float value = scale * std::clamp(std::rint(position), 0.0f, 15.0f) + offset;
        error[k] = static_cast<double>(value) / scales_K[k] - weight_NK(n, k);
      }
    }
    for (Index i = 0; i < kColumns; ++i)
      for (Index j = 0; j < kColumns; ++j) {
        const double term = error[i] * error[j] * stats.gram_KK(std::min(i, j), std::max(i, j));
        loss.value += term;
        loss.absolute += std::abs(term);
      }
  }
  return loss;
}

std::vector<Index> every_row(Index rows) {
  std::vector<Index> all;
  for (Index n = 0; n < rows; ++n) all.push_back(n);
  return all;
}

// fp32 products of the difference of rounded values: each error is known to 2^-23 of a weight of
// some ten steps, each sum of K products to K 2^-24.
double tolerance(const Loss& loss) { return (kColumns + 40) * 0x1p-24 * loss.absolute; }

TEST(AwqSearch, KeepsTheIdentityWhereNothingHelps) {
  Matrix<float> weight(20, kColumns);
  for (Index n = 0; n < 20; ++n)
    for (Index k = 0; k < kColumns; ++k)
      weight(n, k) = 0x1p-6f * static_cast<float>((5 * k + n) % 16 - 6);
  const AwqScales found = search_scales({{weight, kGrid}}, sample_stats(), {}, {}, {}, cpu());
  EXPECT_EQ(found.scales_K, std::vector<float>(kColumns, 1.0f));
  EXPECT_EQ(found.ratio, -1);
  EXPECT_EQ(found.loss, 0.0);
  EXPECT_EQ(found.identity_loss, 0.0);
}

TEST(AwqSearch, EnlargesTheChannelThatMatters) {
  const Matrix<float> weight = test::normal_matrix(50, kColumns, 33, 0.02f);
  const AwqScales found =
      search_scales({{weight, kGrid}}, stats_with_salient_channel(41), {}, {}, {}, cpu());
  EXPECT_GT(found.ratio, 0);
  EXPECT_LT(found.loss, 0.5 * found.identity_loss);
  EXPECT_GT(found.scales_K[41], 1.5f);
  EXPECT_EQ(std::max_element(found.scales_K.begin(), found.scales_K.end()) - found.scales_K.begin(),
            41);
}

TEST(AwqSearch, ReportsTheLossOfItsScales) {
  const quant::InputStats stats = sample_stats();
  const Matrix<float> weight = test::normal_matrix(50, kColumns, 34, 0.02f);
  const AwqScales found = search_scales({{weight, kGrid}}, stats, {}, {}, {}, cpu());
  const Loss best = loss_of(weight, found.scales_K, stats, every_row(50));
  const Loss identity = loss_of(weight, std::vector<float>(kColumns, 1.0f), stats, every_row(50));
  EXPECT_NEAR(found.loss, best.value, tolerance(best));
  EXPECT_NEAR(found.identity_loss, identity.value, tolerance(identity));
  EXPECT_LT(found.loss, found.identity_loss);
}

TEST(AwqSearch, AddsTheLossesOfEveryReaderOnRowsThatAreEvenlySpread) {
  const quant::InputStats stats = sample_stats();
  const Matrix<float> first = test::normal_matrix(50, kColumns, 35, 0.02f);
  const Matrix<float> second = test::normal_matrix(7, kColumns, 36, 0.1f);
  const AwqScales found =
      search_scales({{first, kGrid}, {second, kGrid}}, stats, {.sampled_rows = 10}, {}, {}, cpu());
  const std::vector<float> ones(kColumns, 1.0f);
  const Loss a = loss_of(first, ones, stats, {0, 5, 10, 15, 20, 25, 30, 35, 40, 45});
  const Loss b = loss_of(second, ones, stats, every_row(7));
  // Ten rows stand for the fifty of the first reader; all seven of the second are seen.
  EXPECT_NEAR(found.identity_loss, 5 * a.value + b.value, 5 * tolerance(a) + tolerance(b));
}

TEST(AwqSearch, MeasuresScalesAsTheyWillBeStored) {
  const quant::InputStats stats = stats_with_salient_channel(7);
  const Matrix<float> weight = test::normal_matrix(40, kColumns, 37, 0.02f);
  const ScaleSnap snap = [](std::span<float> scales_K) {
    for (float& scale : scales_K) scale = nearest_power_of_two(scale);
  };
  const AwqScales found = search_scales({{weight, kGrid}}, stats, {}, snap, {}, cpu());
  EXPECT_GT(found.ratio, -1);
  for (const float scale : found.scales_K) EXPECT_EQ(scale, nearest_power_of_two(scale));
  const Loss best = loss_of(weight, found.scales_K, stats, every_row(40));
  EXPECT_NEAR(found.loss, best.value, tolerance(best));
}

// By AWQ's formula in double. Channel 3 never saw an input: 1 before the normalisation.
TEST(AwqSearch, ProposesAwqsScales) {
  Matrix<float> inputs_TK = test::correlated_inputs(300, kColumns, 6, 38);
  for (Index t = 0; t < 300; ++t) inputs_TK(t, 3) = 0.0f;
  const quant::InputStats stats = test::stats_of(inputs_TK);
  const Matrix<float> first = test::normal_matrix(50, kColumns, 39, 0.02f);
  const Matrix<float> second = test::normal_matrix(7, kColumns, 40, 0.1f);
  std::vector<std::vector<float>> proposed;
  search_scales(
      {{first, kGrid}, {second, kGrid}}, stats, {.n_grid = 5},
      [&](std::span<float> scales_K) { proposed.emplace_back(scales_K.begin(), scales_K.end()); },
      {}, cpu());

  std::vector<double> weight_mean(kColumns, 0.0);
  for (const Matrix<float>* weight : {&first, &second})
    for (Index n = 0; n < weight->rows(); ++n)
      for (Index k = 0; k < kColumns; ++k) {
        double largest = 0;
        for (Index j = k / 32 * 32; j < (k / 32 + 1) * 32; ++j)
          largest = std::max<double>(largest, std::abs((*weight)(n, j)));
        weight_mean[k] += std::abs((*weight)(n, k)) / (largest + 1e-6) / 57.0;
      }
  ASSERT_EQ(proposed.size(), 5u);
  for (int i = 0; i < 5; ++i) {
    const double ratio = i / 5.0;
    std::vector<double> expected;
    for (Index k = 0; k < kColumns; ++k)
      expected.push_back(k == 3 ? 1.0
                                : std::pow(stats.magnitude_K[k] / 300.0, ratio) /
                                      (std::pow(weight_mean[k], 1.0 - ratio) + 1e-4));
    const auto [low, high] = std::minmax_element(expected.begin(), expected.end());
    const double middle = std::sqrt(*low * *high);
    // |w| / largest is computed in fp32: three roundings of 2^-24.
    for (Index k = 0; k < kColumns; ++k)
      EXPECT_NEAR(proposed[i][k], expected[k] / middle, 8 * 0x1p-24 * expected[k] / middle);
  }
}

TEST(AwqSearch, FollowsTheLossItIsGiven) {
  const Matrix<float> weight = test::normal_matrix(50, kColumns, 41, 0.02f);
  int calls = 0;
  const ScaleLoss loss = [&](const TrialWeights& trial) {
    const Matrix<float> values = trial(0);
    EXPECT_EQ(values.rows(), 50) << "all rows, not the sampled ones";
    EXPECT_LT(std::abs(values(49, 95) - weight(49, 95)), 0.02f);
    ++calls;
    return calls == 8 || calls == 9 ? 1.0 : 3.0;
  };
  const AwqScales found =
      search_scales({{weight, kGrid}}, sample_stats(), {.sampled_rows = 3}, {}, loss, cpu());
  EXPECT_EQ(calls, 21);
  EXPECT_EQ(found.ratio, 6 / 20.0) << "the first of the two smallest: identity, then ratio 0";
  EXPECT_EQ(found.loss, 1.0);
  EXPECT_EQ(found.identity_loss, 3.0);
}

TEST(AwqSearch, DoesNotDependOnTheNumberOfThreads) {
  const Matrix<float> weight = test::normal_matrix(300, kColumns, 42, 0.02f);
  const quant::InputStats stats = sample_stats();
  const AwqScales one = search_scales({{weight, kGrid}}, stats, {}, {}, {}, open_exec("cpu", 1));
  const AwqScales three = search_scales({{weight, kGrid}}, stats, {}, {}, {}, open_exec("cpu", 3));
  EXPECT_EQ(one.scales_K, three.scales_K);
  EXPECT_EQ(one.loss, three.loss);
}

TEST(AwqSearch, RefusesReadersOfAnotherInputAndMissingStatistics) {
  const Matrix<float> weight = test::normal_matrix(4, 64, 43);
  try {
    search_scales({{weight, kGrid}}, sample_stats(), {}, {}, {}, cpu());
    FAIL();
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), ::testing::HasSubstr("64 inputs cannot read an input of 96"));
  }
  EXPECT_THROW(search_scales({{weight, kGrid}}, {}, {}, {}, {}, cpu()), Error);
}

}  // namespace
}  // namespace calque::quant
