#include "calque/quant/quantized_matrix.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>

#include "calque/core/dtype.h"

namespace calque::quant {
namespace {

// The contract between methods and packers, for every positive finite fp16 scale and every zero
// point: the zero point comes back, and scale * code + offset has the bits of
// scale * (code - zero), the form readers compute. Both products have at most 11 + 8 significant
// bits, so nothing rounds; codes at the ends, the middle and around the zero point stand for all.
TEST(NeutralForm, HoldsIntegerZeroPointsExactly) {
  Index wrong = 0;
  for (std::uint32_t bits = 1; bits < 0x7c00; ++bits) {
    const float scale = to_float(Half{static_cast<std::uint16_t>(bits)});
    for (int zero = 0; zero < 256; ++zero) {
      const float offset = -scale * static_cast<float>(zero);
      wrong += std::rint(-offset / scale) != static_cast<float>(zero);
      for (const int code : {0, 1, 77, 127, 128, 254, 255, zero, (zero + 1) & 255}) {
        const float neutral = scale * static_cast<float>(code) + offset;
        const float reader = scale * static_cast<float>(code - zero);
        wrong += std::bit_cast<std::uint32_t>(neutral) != std::bit_cast<std::uint32_t>(reader);
      }
    }
  }
  EXPECT_EQ(wrong, 0);
}

QuantizedMatrix small_matrix() {
  QuantizedMatrix q;
  q.grid = {.bits = 4, .group_size = 2};
  q.groups().codes_NK = Matrix<std::uint8_t>(1, 4);
  q.groups().scales_NG = Matrix<float>(1, 2);
  q.groups().offsets_NG = Matrix<float>(1, 2);
  for (Index k = 0; k < 4; ++k) q.groups().codes_NK(0, k) = static_cast<std::uint8_t>(3 * k);
  q.groups().scales_NG(0, 0) = 0.5f;
  q.groups().offsets_NG(0, 0) = -4.0f;
  q.groups().scales_NG(0, 1) = -0.25f;
  q.groups().offsets_NG(0, 1) = 2.0f;
  return q;
}

std::vector<float> first_row(const Matrix<float>& m) { return {m.row(0), m.row(0) + m.cols()}; }

// By hand: codes 0 3 | 6 9 on 0.5 c - 4 | -0.25 c + 2.
TEST(QuantizedMatrix, DequantizesByGroup) {
  EXPECT_EQ(first_row(dequantize(small_matrix())), (std::vector<float>{-4, -2.5f, 0.5f, -0.25f}));
}

TEST(QuantizedMatrix, DequantizesWithAGroupForEveryColumn) {
  QuantizedMatrix q = small_matrix();
  q.groups().group_of_column_K = {1, 0, 1, 0};
  EXPECT_EQ(first_row(dequantize(q)), (std::vector<float>{2, -2.5f, 0.5f, 0.5f}));
}

TEST(QuantizedMatrix, RecoversZeroPointsUnderEitherSignOfTheScale) {
  const Matrix<std::uint8_t> zeros = small_matrix().groups().zeros_NG();
  EXPECT_EQ(zeros(0, 0), 8);
  EXPECT_EQ(zeros(0, 1), 8);
}

TEST(ConsecutiveGroups, DivideByTheGroupSize) {
  EXPECT_EQ(consecutive_groups(5, 2), (std::vector<std::int32_t>{0, 0, 1, 1, 2}));
  EXPECT_EQ(consecutive_groups(3, 3), (std::vector<std::int32_t>{0, 0, 0}));
}

}  // namespace
}  // namespace calque::quant
