#include <gtest/gtest.h>

#include <bit>
#include <cmath>

#include "calque/core/dtype.h"
#include "calque/kernels/scale_search.h"

namespace calque {
namespace {

constexpr ScalePrecision kBoth = ScalePrecision::kF16AndBF16;

// Every bfloat16 number, by its bits: those that are normal in binary16 stay, the others move to
// the nearest end of that range.
TEST(GridStorage, KeepsTheNumbersThatBothHalfFormatsHold) {
  int kept = 0;
  for (std::uint32_t bits = 0; bits < 0x10000; ++bits) {
    const float value = to_float(BFloat16{static_cast<std::uint16_t>(bits)});
    if (!std::isfinite(value)) continue;
    const float magnitude = std::abs(value);
    const float stored = rounded_scale(value, kBoth);
    if (magnitude >= 0x1p-14f && magnitude <= 65280.0f) {
      EXPECT_EQ(stored, value);
      EXPECT_EQ(rounded_offset(value, kBoth), value);
      EXPECT_EQ(rounded_to_half(value), value);
      ++kept;
    } else {
      EXPECT_EQ(stored, std::copysign(magnitude < 1 ? 0x1p-14f : 65280.0f, value));
    }
  }
  EXPECT_EQ(kept, 2 * 30 * 128) << "two signs, exponents -14 to 15, 7 bits";
}

// By hand: bfloat16 numbers near 1 are 2^-7 apart above and 2^-8 below; near 0.3, 2^-9.
TEST(GridStorage, RoundsToTheNearest) {
  EXPECT_EQ(rounded_scale(1.0f + 0x1p-8f, kBoth), 1.0f) << "a tie goes to the even one";
  EXPECT_EQ(rounded_scale(1.0f + 0x1.8p-8f, kBoth), 1.0f + 0x1p-7f);
  EXPECT_EQ(rounded_scale(-0.3f, kBoth), -154.0f / 512.0f);
  EXPECT_EQ(rounded_scale(65504.0f, kBoth), 65280.0f);
  EXPECT_EQ(rounded_scale(-1e30f, kBoth), -65280.0f);
  EXPECT_EQ(rounded_scale(0.0f, kBoth), 0x1p-14f);
}

TEST(GridStorage, KeepsOffsetsAwayFromDenormalNumbersOfBinary16) {
  EXPECT_EQ(rounded_offset(0.0f, kBoth), 0.0f);
  EXPECT_EQ(rounded_offset(0x1p-16f, kBoth), 0.0f);
  EXPECT_EQ(rounded_offset(-0x1.8p-15f, kBoth), -0x1p-14f);
  EXPECT_EQ(rounded_offset(-0x1p-16f, ScalePrecision::kF16), -0x1p-16f);
}

// In the middle between two powers, 1.5 times the lower one, the upper one is taken.
TEST(GridStorage, RoundsToTheNearestPowerOfTwo) {
  EXPECT_EQ(rounded_scale(1.499f, ScalePrecision::kE8M0), 1.0f);
  EXPECT_EQ(rounded_scale(1.5f, ScalePrecision::kE8M0), 2.0f);
  EXPECT_EQ(rounded_scale(0, ScalePrecision::kE8M0), 0x1p-127f);
  EXPECT_EQ(rounded_scale(3.4e38f, ScalePrecision::kE8M0), 0x1p127f);
}

TEST(GridStorage, RoundsToFp8NumbersThatAreDivided) {
  EXPECT_EQ(rounded_scale(1.05f, ScalePrecision::kE4M3, 100), 104.0f / 100);
  EXPECT_EQ(rounded_scale(10, ScalePrecision::kE4M3, 100), 448.0f / 100);
  EXPECT_EQ(rounded_scale(1e-9f, ScalePrecision::kE4M3, 100), 0.125f / 100);
}

TEST(GridStorage, SaturatesEveryPrecision) {
  EXPECT_EQ(rounded_scale(1e30f, ScalePrecision::kF16), 65504.0f);
  EXPECT_EQ(rounded_scale(3.4e38f, ScalePrecision::kBF16), 0x1.fep127f);
  EXPECT_EQ(rounded_scale(1.1f, ScalePrecision::kF32), 1.1f);
}

}  // namespace
}  // namespace calque
