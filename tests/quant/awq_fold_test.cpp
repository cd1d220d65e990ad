#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <random>

#include "calque/quant/awq.h"
#include "calque/quant/methods.h"
#include "quant/site_samples.h"

namespace calque::quant {
namespace {

std::vector<float> random_scales(Index count, std::uint64_t seed, bool powers_of_two) {
  const Matrix<float> exponents = test::normal_matrix(1, count, seed);
  std::vector<float> scales;
  for (Index k = 0; k < count; ++k)
    scales.push_back(std::exp2(powers_of_two ? std::rint(exponents(0, k)) : exponents(0, k)));
  return scales;
}

// Dividing by powers of two changes exponents only, so even the sums keep their bits.
TEST(Rescaled, IsTheStatisticsOfDividedInputs) {
  Matrix<float> inputs_TK = test::correlated_inputs(70, 33, 4, 51);
  const quant::InputStats stats = test::stats_of(inputs_TK);
  const std::vector<float> scales = random_scales(33, 52, true);
  divide_columns(inputs_TK, scales);
  const quant::InputStats divided = test::stats_of(inputs_TK);
  const quant::InputStats found = rescaled(stats.clone(), scales);
  EXPECT_EQ(found.tokens, 70);
  EXPECT_EQ(found.magnitude_K, divided.magnitude_K);
  for (Index i = 0; i < 33; ++i)
    for (Index j = i; j < 33; ++j) EXPECT_EQ(found.gram_KK(i, j), divided.gram_KK(i, j));
}

TEST(Rescaled, DividesByEveryScale) {
  const quant::InputStats stats = test::stats_of(test::correlated_inputs(70, 33, 4, 53));
  const std::vector<float> scales = random_scales(33, 54, false);
  const quant::InputStats found = rescaled(stats.clone(), scales);
  for (Index i = 0; i < 33; ++i) {
    EXPECT_DOUBLE_EQ(found.magnitude_K[i], stats.magnitude_K[i] / scales[i]);
    for (Index j = i; j < 33; ++j) {
      const double expected = static_cast<double>(stats.gram_KK(i, j)) / scales[i] / scales[j];
      EXPECT_NEAR(found.gram_KK(i, j), expected, 0x1p-22 * std::abs(expected));
    }
  }
}

TEST(ScaledColumns, AreMultipliedAndDivided) {
  Matrix<float> weight(2, 3);
  for (Index i = 0; i < 6; ++i) weight.data()[i] = static_cast<float>(i + 1);
  const std::vector<float> scales = {2.0f, 0.5f, 3.0f};
  multiply_columns(weight, scales);
  EXPECT_EQ(weight(1, 0), 8.0f);
  EXPECT_EQ(weight(1, 1), 2.5f);
  EXPECT_EQ(weight(1, 2), 18.0f);
  divide_columns(weight, scales);
  EXPECT_EQ(weight(0, 2), 3.0f);
  EXPECT_EQ(weight(1, 1), 5.0f);
}

TEST(NearestPowerOfTwo, IsNearestInTheLogarithm) {
  EXPECT_EQ(nearest_power_of_two(1.0f), 1.0f);
  EXPECT_EQ(nearest_power_of_two(1.41f), 1.0f);
  EXPECT_EQ(nearest_power_of_two(1.42f), 2.0f);
  EXPECT_EQ(nearest_power_of_two(3.0f), 4.0f);
  EXPECT_EQ(nearest_power_of_two(0.7f), 0.5f);
  EXPECT_EQ(nearest_power_of_two(0.72f), 1.0f);
  EXPECT_EQ(nearest_power_of_two(0x1p-30f), 0x1p-30f);
}

float rounded_to(float value, DType dtype) {
  if (dtype == DType::kF16) return rounded_to_half(value);
  return dtype == DType::kBF16 ? rounded_to_bfloat16(value) : value;
}

// The file's norm becomes norm / s; s times what the file then holds is the norm again, up to the
// rounding of s (2^-24) and of the product (2^-24).
TEST(ExactNormScale, GivesANormThatMakesUpForIt) {
  std::mt19937 generator(55);
  std::uniform_real_distribution<float> norms(-0.9f, 3.0f), logarithms(-3.0f, 3.0f);
  for (const DType dtype : {DType::kBF16, DType::kF16, DType::kF32})
    for (const bool plus_one : {false, true})
      for (int trial = 0; trial < 500; ++trial) {
        const float norm = rounded_to(norms(generator), dtype);
        const float proposed = std::exp2(logarithms(generator));
        const float scale = exact_norm_scale(norm, plus_one, dtype, proposed);
        const double one = plus_one ? 1.0 : 0.0;
        const float stored = rounded_to(static_cast<float>((one + norm) / scale - one), dtype);
        const double product = (one + stored) * scale;
        EXPECT_NEAR(static_cast<float>(product), one + norm, 0x1p-23 * std::abs(one + norm))
            << norm << " / " << proposed;
        // Neighbours are at most 2^-7 (bfloat16) of a number apart, or, with one added to it, of
        // the number before that; half of it either way.
        const double step = dtype == DType::kF16 ? 0x1p-10 : 0x1p-7;
        const double magnification =
            plus_one ? std::max(1.0, std::abs(stored) / std::abs(one + stored)) : 1.0;
        EXPECT_NEAR(scale, proposed, 0.51 * step * magnification * proposed + 0x1p-22 * proposed);
      }
}

// Among the numbers that bfloat16 holds by enumeration: no other scale is nearer.
TEST(ExactNormScale, IsTheNearestToTheProposal) {
  std::mt19937 generator(56);
  std::uniform_real_distribution<float> norms(0.1f, 3.0f), scales(0.3f, 4.0f);
  for (const bool plus_one : {false, true})
    for (int trial = 0; trial < 20; ++trial) {
      const float norm = rounded_to_bfloat16(norms(generator));
      const float proposed = scales(generator);
      const double one = plus_one ? 1.0 : 0.0;
      double nearest = 1e30;
      for (std::uint32_t bits = 0; bits < 0x10000; ++bits) {
        const float stored = to_float(BFloat16{static_cast<std::uint16_t>(bits)});
        if (!std::isfinite(stored) || one + stored <= 0) continue;
        nearest = std::min(nearest, std::abs((one + norm) / (one + stored) - proposed));
      }
      const float found = exact_norm_scale(norm, plus_one, DType::kBF16, proposed);
      EXPECT_NEAR(std::abs(static_cast<double>(found) - proposed), nearest, 0x1p-23 * proposed);
    }
}

// By hand: 1 / 0.996115 = 1.0039002 is nearer to 1 than to 1 + 2^-7, whose middle is 1.0039063; but
// of the scales 1 and 1 / (1 + 2^-7) = 0.9922481, with the middle 0.9961240, the second is nearer.
// With one added to norms, 0.5 / 0.998053 - 1 = -0.4990246 is nearer to -0.5 than to -0.5 + 2^-9,
// but 0.5 / (0.5 + 2^-9) = 0.9961089 is nearer than 1.
TEST(ExactNormScale, MeasuresNearnessOnTheScale) {
  EXPECT_FLOAT_EQ(exact_norm_scale(1.0f, false, DType::kBF16, 0.996115f), 0.9922481f);
  EXPECT_FLOAT_EQ(exact_norm_scale(-0.5f, true, DType::kBF16, 0.998053f), 0.9961089f);
}

TEST(ExactNormScale, IsOneWhereThereIsNothingToDivide) {
  EXPECT_EQ(exact_norm_scale(0.0f, false, DType::kBF16, 1.7f), 1.0f);
  EXPECT_EQ(exact_norm_scale(-1.0f, true, DType::kF32, 1.7f), 1.0f);
  EXPECT_EQ(exact_norm_scale(1.0f, false, DType::kF16, std::numeric_limits<float>::quiet_NaN()),
            1.0f);
  // 1e-7 / 3 rounds to zero in binary16.
  EXPECT_EQ(exact_norm_scale(0x1p-24f, false, DType::kF16, 3.0f), 1.0f);
}

QuantizedMatrix sample(OffsetKind kind, ScalePrecision precision) {
  const quant::InputStats none;
  return make_rtn({})(none.clone(), open_exec("cpu", 1))(
             test::normal_matrix(9, 64, 57),
             {.bits = 4, .group_size = 32, .offset_kind = kind, .precision = precision})
      .matrix;
}

TEST(DividedRows, HaveExactlyTheDividedValuesForPowersOfTwo) {
  const std::vector<float> divisors = random_scales(9, 58, true);
  for (const ScalePrecision precision : {ScalePrecision::kF32, ScalePrecision::kF16,
                                         ScalePrecision::kBF16, ScalePrecision::kF16AndBF16})
    for (const OffsetKind kind :
         {OffsetKind::kMiddleCode, OffsetKind::kZeroPoint, OffsetKind::kMinimum}) {
      QuantizedMatrix q = sample(kind, precision);
      const Matrix<float> before = dequantize(q);
      const Matrix<std::uint8_t> codes = q.groups().codes_NK.clone();
      divide_rows(q, divisors);
      const Matrix<float> after = dequantize(q);
      EXPECT_TRUE(test::same_bytes(q.groups().codes_NK, codes));
      for (Index n = 0; n < 9; ++n)
        for (Index k = 0; k < 64; ++k) EXPECT_EQ(after(n, k), before(n, k) / divisors[n]);
    }
}

TEST(DividedRows, KeepZeroPointsAndThePrecision) {
  const std::vector<float> divisors = random_scales(9, 59, false);
  QuantizedMatrix q = sample(OffsetKind::kZeroPoint, ScalePrecision::kF16);
  const Matrix<std::uint8_t> zeros = q.groups().zeros_NG();
  const Matrix<float> scales = q.groups().scales_NG.clone();
  divide_rows(q, divisors);
  for (Index n = 0; n < 9; ++n)
    for (Index g = 0; g < 2; ++g) {
      EXPECT_EQ(q.groups().scales_NG(n, g), rounded_to_half(scales(n, g) / divisors[n]));
      EXPECT_EQ(q.groups().offsets_NG(n, g),
                -q.groups().scales_NG(n, g) * static_cast<float>(zeros(n, g)));
    }
}

// Scales from 2^-13 to 2^-10 in binary16, whose smallest is 2^-14; row 2 has a group of zeros.
TEST(DivisorsInRange, AreThoseThatKeepEveryScaleNormal) {
  Matrix<float> weight(4, 64);
  for (Index n = 0; n < 4; ++n)
    for (Index k = 0; k < 64; ++k)
      weight(n, k) = (k % 16 - 8) * (k < 32 ? 0x1p-13f : 0x1p-10f) * (n == 2 && k < 32 ? 0 : 1);
  RoundingOptions options;
  options.scale_rule = ScaleRule::kFullRange;
  QuantizedMatrix q = make_rtn(options)(InputStats(), open_exec("cpu", 1))(
                          weight.clone(), {.bits = 4, .group_size = 32})
                          .matrix;
  const Matrix<float> before = dequantize(q);
  for (Index i = 0; i < weight.size(); ++i) EXPECT_EQ(before.data()[i], weight.data()[i]);
  std::vector<float> divisors = {8.0f, 2.0f, 8.0f, 0x1p-40f};
  keep_in_range(q, divisors);
  // Row 3: 2^-10 / 2^-25 = 2^15 is the largest power of two times 2^-10 below 65504.
  EXPECT_EQ(divisors, (std::vector<float>{2.0f, 2.0f, 8.0f, 0x1p-25f}));
  divide_rows(q, divisors);
  const Matrix<float> after = dequantize(q);
  for (Index n = 0; n < 4; ++n)
    for (Index k = 0; k < 64; ++k)
      EXPECT_EQ(after(n, k), before(n, k) / divisors[static_cast<std::size_t>(n)]);
}

}  // namespace
}  // namespace calque::quant
