#include "calque/core/dtype.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

namespace calque {
namespace {

TEST(DType, HalfKeepsEveryBitPatternThroughFloat) {
  for (std::uint32_t bits = 0; bits < 0x10000; ++bits) {
    const Half half{static_cast<std::uint16_t>(bits)};
    const bool nan = (bits & 0x7c00u) == 0x7c00u && (bits & 0x3ffu) != 0;
    if (nan) {
      EXPECT_TRUE(std::isnan(to_float(half)));
      EXPECT_TRUE(std::isnan(to_float(to_half(to_float(half)))));
    } else {
      ASSERT_EQ(to_half(to_float(half)).bits, bits);
    }
  }
}

// The value between two neighbours goes to the one with an even last bit; anything beyond the
// middle goes to the nearer. Checked from the definition for every finite half.
TEST(DType, ToHalfRoundsToNearestEven) {
  for (std::uint32_t bits = 0; bits < 0x7bff; ++bits) {
    const float low = to_float(Half{static_cast<std::uint16_t>(bits)});
    const float high = to_float(Half{static_cast<std::uint16_t>(bits + 1)});
    const float middle = static_cast<float>((static_cast<double>(low) + high) / 2);
    const std::uint32_t even = (bits & 1) ? bits + 1 : bits;
    ASSERT_EQ(to_half(middle).bits, even) << bits;
    ASSERT_EQ(to_half(std::nextafter(middle, 0.0f)).bits, bits);
    ASSERT_EQ(to_half(std::nextafter(middle, 1e9f)).bits, bits + 1);
    ASSERT_EQ(to_half(-middle).bits, even | 0x8000u);
  }
}

TEST(DType, ToHalfOverflowsToInfinityFromHalfAStepAboveTheLargest) {
  EXPECT_EQ(to_half(65504.0f).bits, 0x7bff);
  EXPECT_EQ(to_half(65519.996f).bits, 0x7bff);
  EXPECT_EQ(to_half(65520.0f).bits, 0x7c00);
  EXPECT_EQ(to_half(-1e30f).bits, 0xfc00);
}

// 1 + 2^-8 lies between 1 and 1 + 2^-7: even is 1. 1 + 3 * 2^-8 lies between odd 1 + 2^-7 and even.
TEST(DType, ToBFloat16RoundsToNearestEven) {
  EXPECT_EQ(to_bfloat16(1.0f + 0x1p-8f).bits, 0x3f80);
  EXPECT_EQ(to_bfloat16(1.0f + 3 * 0x1p-8f).bits, 0x3f82);
  EXPECT_EQ(to_bfloat16(std::nextafter(1.0f + 0x1p-8f, 2.0f)).bits, 0x3f81);
  EXPECT_EQ(to_bfloat16(std::numeric_limits<float>::max()).bits, 0x7f80);
  EXPECT_TRUE(std::isnan(to_float(to_bfloat16(std::nanf("")))));
}

}  // namespace
}  // namespace calque
