#include "calque/quant/upstream.h"

#include <gtest/gtest.h>

#include <cmath>
#include <random>

#include "calque/kernels/gram.h"
#include "calque/kernels/products.h"

namespace calque::quant {
namespace {

struct Site {
  quant::InputStats stats;  // statistics of x~
  InputShift shift;
};

Matrix<float> noise(Index tokens, Index channels, double deviation, unsigned seed) {
  std::mt19937 rng(seed);
  std::normal_distribution<double> normal(0, deviation);
  auto m = Matrix<float>::uninitialized(tokens, channels);
  for (Index i = 0; i < m.size(); ++i) m.data()[i] = static_cast<float>(normal(rng));
  return m;
}

Site site_of(const Matrix<float>& original_TK, const Matrix<float>& seen_TK) {
  const Exec exec = open_exec("cpu", 2);
  const Index channels = seen_TK.cols();
  Site site;
  site.stats.gram_KK = Matrix<float>(channels, channels);
  site.stats.magnitude_K.assign(static_cast<std::size_t>(channels), 0.0);
  site.stats.tokens =
      accumulate_gram(seen_TK.view(), site.stats.gram_KK, site.stats.magnitude_K, exec).rows;
  auto difference_TK = Matrix<float>::uninitialized(seen_TK.rows(), channels);
  for (Index i = 0; i < seen_TK.size(); ++i) {
    difference_TK.data()[i] = original_TK.data()[i] - seen_TK.data()[i];
    site.shift.energy += static_cast<double>(difference_TK.data()[i]) * difference_TK.data()[i];
  }
  site.shift.cross_KK = Matrix<float>(channels, channels);
  accumulate_product(difference_TK, seen_TK, site.shift.cross_KK, exec);
  return site;
}

std::optional<UpstreamCorrection> correction_of(const Site& site, double damp_percent,
                                                double strength = 1) {
  return upstream_correction(site.stats, {site.shift.cross_KK.clone(), site.shift.energy}, strength,
                             {.damp_percent = damp_percent}, open_exec("cpu", 2));
}

// x~ = x / 2 in every channel: W* = 2 W, whatever the inputs, and nothing is left unexplained.
TEST(UpstreamCorrection, UndoesALinearMap) {
  const Matrix<float> original = noise(400, 12, 1, 1);
  Matrix<float> seen = original.clone();
  for (Index i = 0; i < seen.size(); ++i) seen.data()[i] *= 0.5f;
  const auto correction = correction_of(site_of(original, seen), 0);
  ASSERT_TRUE(correction);
  EXPECT_NEAR(correction->trust, 1, 1e-4);
  for (Index i = 0; i < 12; ++i)
    for (Index j = 0; j < 12; ++j)
      EXPECT_NEAR(correction->change_KK(i, j), i == j ? 1 : 0, 1e-3) << i << "," << j;
}

// x~ = x + e with independent e of variances 1 and v_k: the best linear map is the Wiener filter
// x ~ x~ / (1 + v_k), so A = -v_k / (1 + v_k) on the diagonal. A coefficient that is estimated from
// T tokens has a standard deviation of about sqrt(v / (1 + v) / T) <= 0.005 here: five of them.
TEST(UpstreamCorrection, IsTheWienerFilter) {
  const Index tokens = 40000, channels = 8;
  const Matrix<float> original = noise(tokens, channels, 1, 2);
  const Matrix<float> error = noise(tokens, channels, 1, 3);
  Matrix<float> seen = original.clone();
  const auto variance = [](Index k) { return 0.1 * static_cast<double>(k + 1); };
  for (Index t = 0; t < tokens; ++t)
    for (Index k = 0; k < channels; ++k)
      seen(t, k) += static_cast<float>(std::sqrt(variance(k))) * error(t, k);
  const auto correction = correction_of(site_of(original, seen), 0);
  ASSERT_TRUE(correction);
  for (Index i = 0; i < channels; ++i)
    for (Index j = 0; j < channels; ++j)
      EXPECT_NEAR(correction->change_KK(i, j),
                  i == j ? -correction->trust * variance(i) / (1 + variance(i)) : 0, 0.025);
}

// A difference that has nothing to do with the inputs is not fitted: with 64 coefficients a row and
// 256 tokens, a quarter of it would be.
TEST(UpstreamCorrection, DoesNotFollowNoise) {
  const Index tokens = 256, channels = 64;
  const Matrix<float> seen = noise(tokens, channels, 1, 4);
  Matrix<float> original = noise(tokens, channels, 1, 5);
  for (Index i = 0; i < original.size(); ++i) original.data()[i] += seen.data()[i];
  const auto correction = correction_of(site_of(original, seen), 0);
  ASSERT_TRUE(correction);
  // explained is K / T of the whole in expectation, where trust is 0; over 64 x 64 coefficients its
  // relative deviation is sqrt(2) / 64, and trust moves by as much.
  EXPECT_LT(correction->trust, 0.1);
}

// 16 tokens determine 16 coefficients whatever they are; damping H by its mean leaves fewer.
TEST(UpstreamCorrection, NeedsMoreTokensThanCoefficients) {
  const Site site = site_of(noise(16, 16, 1, 7), noise(16, 16, 1, 6));
  EXPECT_FALSE(correction_of(site, 0));
  EXPECT_TRUE(correction_of(site, 1));
}

TEST(UpstreamCorrection, DoesNotFollowNoiseUnderDamping) {
  const Index tokens = 256, channels = 64;
  const Matrix<float> seen = noise(tokens, channels, 1, 4);
  Matrix<float> original = noise(tokens, channels, 1, 5);
  for (Index i = 0; i < original.size(); ++i) original.data()[i] += seen.data()[i];
  EXPECT_LT(correction_of(site_of(original, seen), 0.5)->trust, 0.1);
}

TEST(UpstreamCorrection, LeavesEqualInputsAlone) {
  const Matrix<float> seen = noise(100, 8, 1, 8);
  const auto correction = correction_of(site_of(seen, seen), 0.01);
  ASSERT_TRUE(correction);
  Matrix<float> weight = noise(5, 8, 1, 9);
  const Matrix<float> before = weight.clone();
  EXPECT_EQ(correct_upstream(*correction, weight, open_exec("cpu", 1)), 0);
  for (Index i = 0; i < weight.size(); ++i) EXPECT_EQ(weight.data()[i], before.data()[i]);
}

// W + W A by hand: A = diag(1, 0) doubles the first column.
TEST(CorrectUpstream, AddsTheChange) {
  UpstreamCorrection correction;
  correction.change_KK = Matrix<float>(2, 2);
  correction.change_KK(0, 0) = 1;
  Matrix<float> weight(1, 2);
  weight(0, 0) = 3;
  weight(0, 1) = 4;
  EXPECT_DOUBLE_EQ(correct_upstream(correction, weight, open_exec("cpu", 1)), 3.0 / 5.0);
  EXPECT_EQ(weight(0, 0), 6);
  EXPECT_EQ(weight(0, 1), 4);
}

TEST(UpstreamCorrection, ScalesWithStrength) {
  const Matrix<float> original = noise(400, 12, 1, 10);
  Matrix<float> seen = original.clone();
  for (Index i = 0; i < seen.size(); ++i) seen.data()[i] *= 0.5f;
  const Site site = site_of(original, seen);
  EXPECT_FLOAT_EQ(static_cast<float>(correction_of(site, 0, 0.25)->change_KK(3, 3)),
                  0.25f * correction_of(site, 0)->change_KK(3, 3));
}

}  // namespace
}  // namespace calque::quant
