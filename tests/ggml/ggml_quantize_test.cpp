#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "calque/core/error.h"
#include "calque/kernels/ggml.h"
#include "ggml/ggml_samples.h"

namespace calque {
namespace {

using testing::HasSubstr;

std::string hex_of(const std::vector<std::byte>& bytes, std::size_t count) {
  std::string hex;
  for (std::size_t i = 0; i < count; ++i) {
    const int byte = std::to_integer<int>(bytes[i]);
    hex += "0123456789abcdef"[byte >> 4];
    hex += "0123456789abcdef"[byte & 15];
  }
  return hex;
}

class GgmlGolden : public testing::TestWithParam<GoldenError> {
 protected:
  // The type's rows of the table, in order.
  static std::vector<GoldenCrc> crcs() {
    std::vector<GoldenCrc> found;
    for (const GoldenCrc& golden : kGoldenCrcs)
      if (golden.type == GetParam().type) found.push_back(golden);
    return found;
  }
};

TEST_P(GgmlGolden, PlainBytesEqualTheReference) {
  ASSERT_FALSE(crcs().empty());
  for (const auto& [type, input, plain, weighted] : crcs())
    EXPECT_EQ(crc32(ggml_quantized(type, ggml_input(input), {})), plain)
        << "input " << static_cast<int>(input);
}

TEST_P(GgmlGolden, WeightedBytesEqualTheReference) {
  ASSERT_FALSE(crcs().empty());
  for (const auto& [type, input, plain, weighted] : crcs())
    EXPECT_EQ(crc32(ggml_quantized(type, ggml_input(input), ggml_importance_of(input))), weighted)
        << "input " << static_cast<int>(input);
}

INSTANTIATE_TEST_SUITE_P(Reference, GgmlGolden, testing::ValuesIn(kGoldenErrors),
                         [](const auto& test) { return name_of_type(test.param.type); });

// Says which field differs where a CRC only says that one does.
TEST(GgmlQuantize, FirstBlocksOfNoiseEqualTheReference) {
  for (const GoldenBlock& golden : kGoldenBlocks) {
    const auto importance = golden.weighted ? ggml_importance() : std::vector<float>{};
    const auto bytes = ggml_quantized(golden.type, ggml_input(GgmlInput::kNoise), importance);
    EXPECT_EQ(hex_of(bytes, golden.hex.size() / 2), golden.hex)
        << name_of_type(golden.type) << (golden.weighted ? " weighted" : "");
  }
}

// 41 super-blocks: whole strips (of 4, 8 or 16, by the register width) and a part of one.
// Q4_0 to Q5_1 are left out under importance: there the variance is that of the whole row.
TEST(GgmlQuantize, EachSuperBlockStandsForItself) {
  constexpr Index kBlocks = 41;
  const std::vector<float> row = ggml_noise(kBlocks * 256);
  const std::vector<float> importance = ggml_importance(kBlocks * 256);
  for (const GoldenError& golden : kGoldenErrors) {
    const bool whole_row = golden.type <= ggml::Type::kQ5_1;
    const auto weights = whole_row ? std::vector<float>{} : importance;
    const auto bytes =
        ggml_quantized(golden.type, MatrixView<const float>(row.data(), 1, kBlocks * 256), weights);
    std::vector<std::byte> apart;
    for (Index b = 0; b < kBlocks; ++b) {
      auto part = weights;
      if (!whole_row) part = {weights.begin() + b * 256, weights.begin() + (b + 1) * 256};
      const auto block =
          ggml_quantized(golden.type, MatrixView<const float>(row.data() + b * 256, 1, 256), part);
      apart.insert(apart.end(), block.begin(), block.end());
    }
    EXPECT_EQ(bytes, apart) << name_of_type(golden.type);
  }
}

// Rows of 160 columns are five blocks of 32: blocks of 32 need no multiple of 256.
TEST(GgmlQuantize, BlocksOf32TakeNarrowRows) {
  const std::vector<float> x = ggml_noise(320);
  for (const ggml::Type type : {ggml::Type::kQ4_0, ggml::Type::kQ8_0, ggml::Type::kIQ4_NL}) {
    const auto both = ggml_quantized(type, MatrixView<const float>(x.data(), 2, 160), {});
    const auto second = ggml_quantized(type, MatrixView<const float>(x.data() + 160, 1, 160), {});
    EXPECT_TRUE(std::equal(second.begin(), second.end(), both.begin() + both.size() / 2))
        << name_of_type(type);
  }
}

TEST(GgmlQuantize, ThreadsAndStrideDoNotMatter) {
  constexpr Index kRows = 300, kColumns = 512;
  const std::vector<float> x = ggml_noise(kRows * 2 * kColumns);
  const MatrixView<const float> strided(x.data(), kRows, kColumns, 2 * kColumns);
  const Matrix<float> dense = Matrix<float>::copy_of(strided);
  const std::vector<float> importance = ggml_importance(kColumns);
  for (const GoldenError& golden : kGoldenErrors)
    EXPECT_EQ(ggml_quantized(golden.type, strided, importance, 4),
              ggml_quantized(golden.type, dense, importance, 1))
        << name_of_type(golden.type);
}

// Bits per weight times 256 / 8, from the format's table.
TEST(GgmlQuantize, RowBytesFollowTheFormat) {
  EXPECT_EQ(ggml::row_bytes(ggml::Type::kQ4_0, 4096), 4096u / 32 * 18);
  EXPECT_EQ(ggml::row_bytes(ggml::Type::kQ2_K, 512), 168u);
  EXPECT_EQ(ggml::row_bytes(ggml::Type::kQ3_K, 512), 220u);
  EXPECT_EQ(ggml::row_bytes(ggml::Type::kQ6_K, 512), 420u);
  EXPECT_EQ(ggml::row_bytes(ggml::Type::kIQ4_XS, 512), 272u);
  EXPECT_EQ(ggml::row_bytes(ggml::Type::kTQ1_0, 512), 108u);
  EXPECT_EQ(ggml::info_of(ggml::Type::kQ4_K).block_columns, 256);
  EXPECT_EQ(ggml::info_of(ggml::Type::kQ4_K).block_bytes, 144u);
}

TEST(GgmlQuantize, KnowsItsTypes) {
  EXPECT_TRUE(ggml::find_type(12)->quantized());
  EXPECT_FALSE(ggml::find_type(0)->quantized());   // F32 has no blocks
  EXPECT_FALSE(ggml::find_type(41)->quantized());  // Q1_0
  EXPECT_EQ(ggml::find_type(4), nullptr);          // removed from the format
}

template <typename Body>
std::string refusal(Body body) {
  try {
    body();
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kInternal);
    return error.what();
  }
  return "";
}

TEST(GgmlQuantize, RefusesShapesThatDoNotFit) {
  EXPECT_THAT(refusal([] { ggml::row_bytes(ggml::Type::kQ4_K, 300); }),
              HasSubstr("columns beyond the last whole block is 44, expected 0"));
  const Matrix<float> x(2, 256);
  const Exec exec = open_exec("cpu", 1);
  std::vector<std::byte> out(288);
  EXPECT_THAT(refusal([&] { ggml::quantize(ggml::Type::kQ1_0, x, {}, out.data()); }),
              HasSubstr("ggml type 41 has no block codec"));
  EXPECT_THAT(
      refusal([&] { ggml_quantize(ggml::Type::kQ4_K, x, {}, std::span(out).first(287), exec); }),
      HasSubstr("ggml_quantize: out has 287 elements, expected 288"));
  EXPECT_THAT(
      refusal([&] { ggml_quantize(ggml::Type::kQ4_K, x, std::vector<float>(255), out, exec); }),
      HasSubstr("importance_K has 255 elements, expected 256"));
  Matrix<float> y(1, 256);
  EXPECT_THAT(refusal([&] { ggml_dequantize(ggml::Type::kQ4_K, out, y, exec); }),
              HasSubstr("ggml_dequantize: bytes has 288 elements, expected 144"));
}

}  // namespace
}  // namespace calque
