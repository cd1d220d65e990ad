#include "calque/core/small_float.h"

#include <gtest/gtest.h>

#include <cmath>
#include <utility>
#include <vector>

namespace calque {
namespace {

// By the definition of E4M3: (-1)^s 2^(e-7) (1 + m/8), and m 2^-9 for e = 0.
TEST(SmallFloat, HasTheValuesOfE4M3) {
  const std::span<const float> values = values_of(SmallFloat::kE4M3);
  ASSERT_EQ(values.size(), 256u);
  EXPECT_EQ(values[0x01], 0x1p-9f);
  EXPECT_EQ(values[0x07], 7 * 0x1p-9f);
  EXPECT_EQ(values[0x08], 0x1p-6f);
  EXPECT_EQ(values[0x38], 1.0f);
  EXPECT_EQ(values[0x3b], 1.375f);
  EXPECT_EQ(values[0x7e], 448.0f);
  EXPECT_EQ(values[0xfe], -448.0f);
  EXPECT_TRUE(std::isnan(values[0x7f]) && std::isnan(values[0xff]));
  EXPECT_TRUE(std::signbit(values[0x80]));
}

TEST(SmallFloat, HasTheValuesOfE2M1) {
  const std::span<const float> values = values_of(SmallFloat::kE2M1);
  EXPECT_EQ(
      std::vector<float>(values.begin(), values.end()),
      (std::vector<float>{0, 0.5, 1, 1.5, 2, 3, 4, 6, -0.0f, -0.5, -1, -1.5, -2, -3, -4, -6}));
}

// Values at ties, at the ends and among the subnormals, with the codes that compressed-tensors
// 0.20.1 and torch give them.
TEST(SmallFloat, RoundsToE4M3AsTorchDoes) {
  const std::vector<std::pair<float, int>> table = {
      {0.0f, 0},         {-0.0f, 128},    {0x1p-10f, 0},    {0x1.000002p-10f, 1}, {0x1p-9f, 1},
      {0x1.8p-9f, 2},    {0x1p-6f, 8},    {0x1p-4f, 24},    {0x1.1p+0f, 56},      {0x1.3p+0f, 58},
      {0x1.1p+4f, 88},   {0x1.3p+4f, 90}, {0x1.ep+7f, 119}, {0x1.bp+8f, 126},     {0x1.b8p+8f, 126},
      {0x1.c8p+8f, 126}, {1e30f, 126},    {-1e30f, 254},    {-0x1.3p+0f, 186}};
  for (const auto& [value, code] : table)
    EXPECT_EQ(code_of(SmallFloat::kE4M3, value), code) << value;
}

// Nearest, ties to the even mantissa: 0.25 is 0, 0.75 is 1, 1.25 is 1, 2.5 is 2, 5 is 4.
TEST(SmallFloat, RoundsToE2M1) {
  const std::vector<std::pair<float, int>> table = {
      {0.25f, 0}, {0.2501f, 1}, {0.74f, 1}, {0.75f, 2}, {1.25f, 2},   {1.26f, 3},
      {1.75f, 4}, {2.5f, 4},    {2.51f, 5}, {3.49f, 5}, {3.5f, 6},    {5.0f, 6},
      {5.01f, 7}, {100.0f, 7},  {-0.1f, 8}, {-0.6f, 9}, {-100.0f, 15}};
  for (const auto& [value, code] : table)
    EXPECT_EQ(code_of(SmallFloat::kE2M1, value), code) << value;
}

// compressed-tensors 0.20.1: a mantissa of 1.75 and more goes up to the next power of two, then 2
// (FP4) or 8 (FP8) powers down.
TEST(SmallFloat, HasPowersOfTwoAsScales) {
  const std::vector<std::pair<float, int>> exponents = {
      {0x1p-20f, -22}, {1, -2}, {0x1.bffffep+0f, -2}, {1.75f, -1}, {3.5f, 0}, {6, 0}, {7, 1}};
  for (const auto& [peak, exponent] : exponents) {
    EXPECT_EQ(power_of_two_scale(SmallFloat::kE2M1, peak), std::ldexp(1.0f, exponent)) << peak;
    EXPECT_EQ(power_of_two_scale(SmallFloat::kE4M3, peak), std::ldexp(1.0f, exponent - 6)) << peak;
  }
  EXPECT_EQ(power_of_two_scale(SmallFloat::kE2M1, 0), 0x1p-127f);
  EXPECT_EQ(power_of_two_scale(SmallFloat::kE2M1, 3e38f), 0x1p125f);
}

TEST(SmallFloat, WritesPowersOfTwoAsBytes) {
  for (int code = 0; code < 255; ++code) {
    const float power = e8m0_value_of(static_cast<std::uint8_t>(code));
    EXPECT_EQ(power, std::ldexp(1.0f, code - 127));
    EXPECT_EQ(e8m0_code_of(power), code);
  }
  EXPECT_TRUE(std::isnan(e8m0_value_of(255)));
}

TEST(SmallFloat, HasFp8NumbersAsScales) {
  EXPECT_EQ(fp8_scale(1.3f, 100), 128.0f / 100);
  EXPECT_EQ(fp8_scale(10, 100), 448.0f / 100);
  EXPECT_EQ(fp8_scale(0, 100), 0.125f / 100);
}

TEST(SmallFloat, GivesEveryNumberItsOwnCode) {
  for (const SmallFloatInfo& info : kSmallFloats)
    for (int code = 0; code <= info.max_code(); ++code) {
      const float value = values_of(info.type)[static_cast<std::size_t>(code)];
      if (std::isnan(value)) continue;
      EXPECT_EQ(code_of(info.type, value), code) << info.name;
      EXPECT_EQ(rounded_to(info.type, value), value) << info.name;
    }
}

}  // namespace
}  // namespace calque
