#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "calque/core/dtype.h"
#include "ggml/ggml_samples.h"

namespace calque {
namespace {

double root_mean_square_error(ggml::Type type, const std::vector<float>& importance) {
  const Matrix<float> x = ggml_input(GgmlInput::kNoise);
  const Matrix<float> y = ggml_values(type, ggml_quantized(type, x, importance), 2, 256);
  double sum = 0;
  for (Index i = 0; i < x.size(); ++i) {
    const double difference = static_cast<double>(x.data()[i]) - y.data()[i];
    sum += difference * difference;
  }
  return std::sqrt(sum / static_cast<double>(x.size()));
}

// The reference's own dequantizers gave these errors, printed to eight decimals; half a unit of the
// last one, and what rounding each value (below 2) to fp32 adds to the mean: at most 6e-8.
TEST(GgmlDequantize, ErrorsOnNoiseEqualTheReference) {
  for (const GoldenError& golden : kGoldenErrors) {
    EXPECT_NEAR(root_mean_square_error(golden.type, {}), golden.plain, 6.5e-8)
        << name_of_type(golden.type);
    EXPECT_NEAR(root_mean_square_error(golden.type, ggml_importance()), golden.weighted, 6.5e-8)
        << name_of_type(golden.type) << " weighted";
  }
}

struct Worked {
  ggml::Type type;
  Index element;
  float value;
};

// Decoded by hand from the hex of the first block of the noise, to the eight decimals shown.
const Worked kWorked[] = {
    {ggml::Type::kQ4_0, 3, 0.36254883f},     {ggml::Type::kQ4_0, 19, 0.12084961f},
    {ggml::Type::kQ4_1, 3, 0.44714355f},     {ggml::Type::kQ4_1, 19, 0.06152344f},
    {ggml::Type::kQ5_0, 3, 0.42297363f},     {ggml::Type::kQ5_0, 19, 0.0604248f},
    {ggml::Type::kQ5_1, 3, 0.40216064f},     {ggml::Type::kQ5_1, 19, 0.09103394f},
    {ggml::Type::kQ8_0, 3, 0.41116333f},     {ggml::Type::kQ8_0, 19, 0.06091309f},
    {ggml::Type::kQ2_K, 77, -0.84979248f},   {ggml::Type::kQ2_K, 200, 0.19244385f},
    {ggml::Type::kQ3_K, 77, -0.81511688f},   {ggml::Type::kQ3_K, 200, 0.0f},
    {ggml::Type::kQ4_K, 77, -0.71185303f},   {ggml::Type::kQ4_K, 200, -0.06985474f},
    {ggml::Type::kQ5_K, 77, -0.72026825f},   {ggml::Type::kQ5_K, 200, -0.05299187f},
    {ggml::Type::kQ6_K, 77, -0.71532822f},   {ggml::Type::kQ6_K, 200, -0.03110123f},
    {ggml::Type::kIQ4_NL, 3, 0.42498016f},   {ggml::Type::kIQ4_NL, 19, 0.10424042f},
    {ggml::Type::kIQ4_XS, 77, -0.73876953f}, {ggml::Type::kIQ4_XS, 200, -0.08041382f},
    {ggml::Type::kMXFP4, 3, 0.375f},         {ggml::Type::kMXFP4, 19, 0.0625f},
};

TEST(GgmlDequantize, WorkedElementsDecodeAsByHand) {
  for (const Worked& worked : kWorked) {
    const auto bytes = ggml_quantized(worked.type, ggml_input(GgmlInput::kNoise), {});
    const Matrix<float> y = ggml_values(worked.type, bytes, 2, 256);
    // Values below 1 to eight decimals: half a unit of the last, and fp32's own half unit.
    EXPECT_NEAR(y(0, worked.element), worked.value, 3.5e-8) << name_of_type(worked.type);
  }
}

std::vector<std::byte> bytes_of(std::initializer_list<int> values) {
  std::vector<std::byte> bytes;
  for (const int value : values) bytes.push_back(static_cast<std::byte>(value));
  return bytes;
}

// Base 3: a byte b holds the digits of ceil(256 n / 243). 0x80: n = 121 = 11111 in base 3.
TEST(GgmlDequantize, TernaryBytesHoldFiveDigits) {
  std::vector<std::byte> block(54, std::byte{0x80});
  block[52] = std::byte{0x00};  // binary16 2.0
  block[53] = std::byte{0x40};
  block[0] = std::byte{0xFF};   // n = 242 = 22222: codes of elements 0, 32, 64, 96, 128
  block[32] = std::byte{0x00};  // 00000: elements 160, 176, 192, 208, 224
  const Matrix<float> y = ggml_values(ggml::Type::kTQ1_0, block, 1, 256);
  for (Index i = 0; i < 256; ++i) {
    const bool high = i % 32 == 0 && i <= 128;
    const bool low = i >= 160 && i < 240 && i % 16 == 0;
    EXPECT_EQ(y(0, i), high ? 2.0f : low ? -2.0f : 0.0f) << i;
  }
}

// E8M0: 2^(e - 127), halved because the table holds doubled values. e = 0 is subnormal, not 0.
TEST(GgmlDequantize, Mxfp4ScalesReachSubnormalsAndTheTop) {
  auto block = bytes_of({0, 0x17, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x90});
  Matrix<float> y = ggml_values(ggml::Type::kMXFP4, block, 1, 32);
  EXPECT_EQ(y(0, 0), 12 * 0x1p-128f);
  EXPECT_EQ(y(0, 16), 0x1p-128f);
  EXPECT_EQ(y(0, 31), -0x1p-128f);
  block[0] = std::byte{0xFE};
  y = ggml_values(ggml::Type::kMXFP4, block, 1, 32);
  EXPECT_EQ(y(0, 16), 0x1p126f);
}

// Every byte pattern is legal; scales of infinity or NaN give such values, no more.
TEST(GgmlDequantize, DecodesAnyBytes) {
  for (const GoldenError& golden : kGoldenErrors) {
    for (const int byte : {0x7F, 0x80, 0xFF}) {
      const std::vector<std::byte> bytes(ggml::row_bytes(golden.type, 256),
                                         static_cast<std::byte>(byte));
      EXPECT_NO_THROW(ggml_values(golden.type, bytes, 1, 256)) << name_of_type(golden.type);
    }
    const std::vector<std::byte> zeros(ggml::row_bytes(golden.type, 256));
    EXPECT_EQ(std::abs(ggml_values(golden.type, zeros, 1, 256)(0, 255)), 0)
        << name_of_type(golden.type);
  }
}

}  // namespace
}  // namespace calque
