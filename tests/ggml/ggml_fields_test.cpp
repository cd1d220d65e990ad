#include <gtest/gtest.h>

#include <random>

#include "calque/core/error.h"
#include "calque/kernels/ggml.h"
#include "ggml/ggml_samples.h"

namespace calque {
namespace {

constexpr Index kRows = 3;
constexpr Index kColumns = 512;

// The places of a block's binary16 steps.
std::vector<std::size_t> step_offsets(ggml::Type type) {
  switch (type) {
    case ggml::Type::kQ2_K:
      return {80, 82};
    case ggml::Type::kQ3_K:
      return {108};
    case ggml::Type::kQ6_K:
      return {208};
    case ggml::Type::kIQ4_NL:
    case ggml::Type::kIQ4_XS:
      return {0};
    default:
      return {0, 2};
  }
}

// Every byte of a block is free but the steps, which must be finite: no exponent of all ones.
std::vector<std::byte> random_blocks(ggml::Type type) {
  std::mt19937 generator(11);
  std::vector<std::byte> bytes(static_cast<std::size_t>(kRows) * ggml::row_bytes(type, kColumns));
  for (std::byte& byte : bytes) byte = static_cast<std::byte>(generator() & 255);
  for (std::size_t block = 0; block < bytes.size(); block += ggml::info_of(type).block_bytes)
    for (const std::size_t step : step_offsets(type)) bytes[block + step + 1] &= std::byte{0xBB};
  return bytes;
}

class GgmlFieldsOf : public ::testing::TestWithParam<ggml::Type> {
 protected:
  const ggml::Structure& structure_ = *ggml::info_of(GetParam()).structure;
  const Exec exec_ = open_exec("cpu", 2);
};

std::vector<std::byte> there_and_back(ggml::Type type, const std::vector<std::byte>& bytes,
                                      Index rows, Index columns, const Exec& exec) {
  const ggml::Fields fields = ggml_fields(type, bytes, rows, columns, exec);
  std::vector<std::byte> again(bytes.size(), std::byte{0x5A});
  store_ggml_fields(type, fields, again, exec);
  return again;
}

TEST_P(GgmlFieldsOf, GiveBackTheBytesOfRandomBlocks) {
  const std::vector<std::byte> bytes = random_blocks(GetParam());
  EXPECT_EQ(there_and_back(GetParam(), bytes, kRows, kColumns, exec_), bytes);
}

// Bytes whose checksums are those of the reference quantizers (ggml_golden.h).
TEST_P(GgmlFieldsOf, GiveBackTheBytesOfTheReferenceQuantizers) {
  for (const GgmlInput input : {GgmlInput::kNoise, GgmlInput::kZeros, GgmlInput::kSpikes})
    for (const bool weighted : {false, true}) {
      const auto bytes = ggml_quantized(GetParam(), ggml_input(input),
                                        weighted ? ggml_importance() : std::vector<float>());
      EXPECT_EQ(there_and_back(GetParam(), bytes, 2, 256, exec_), bytes);
    }
}

// Products of a step (11 bits), a scale code (8) and a level (7) have 24 bits at most where both
// are that wide, so the value has a single rounding: that of adding the offset.
TEST_P(GgmlFieldsOf, StandForTheDequantizedValues) {
  const std::vector<std::byte> bytes = random_blocks(GetParam());
  const ggml::Fields f = ggml_fields(GetParam(), bytes, kRows, kColumns, exec_);
  const Matrix<float> values = ggml_values(GetParam(), bytes, kRows, kColumns);
  for (Index n = 0; n < kRows; ++n)
    for (Index k = 0; k < kColumns; ++k) {
      const Index g = k / structure_.group, s = k / structure_.super;
      const float scale = f.steps_NS(n, s) * f.scale_codes_NG(n, g);
      const float offset = -f.minimum_steps_NS(n, s) * f.minimum_codes_NG(n, g);
      ASSERT_EQ(scale * structure_.levels[f.codes_NK(n, k)] + offset, values(n, k))
          << n << ", " << k;
    }
}

TEST_P(GgmlFieldsOf, StayInsideTheStructure) {
  const ggml::Fields f = ggml_fields(GetParam(), random_blocks(GetParam()), kRows, kColumns, exec_);
  int lowest = 1000, highest = -1000, highest_minimum = 0;
  for (Index i = 0; i < f.scale_codes_NG.size(); ++i) {
    lowest = std::min<int>(lowest, f.scale_codes_NG.data()[i]);
    highest = std::max<int>(highest, f.scale_codes_NG.data()[i]);
    highest_minimum = std::max<int>(highest_minimum, f.minimum_codes_NG.data()[i]);
  }
  EXPECT_GE(lowest, structure_.lowest_scale);
  EXPECT_LE(highest, structure_.highest_scale);
  EXPECT_LE(highest_minimum, structure_.highest_minimum);
  EXPECT_EQ(structure_.table().empty(),
            GetParam() != ggml::Type::kIQ4_NL && GetParam() != ggml::Type::kIQ4_XS);
}

INSTANTIATE_TEST_SUITE_P(Types, GgmlFieldsOf,
                         ::testing::Values(ggml::Type::kQ2_K, ggml::Type::kQ3_K, ggml::Type::kQ4_K,
                                           ggml::Type::kQ5_K, ggml::Type::kQ6_K,
                                           ggml::Type::kIQ4_NL, ggml::Type::kIQ4_XS),
                         [](const auto& tested) { return name_of_type(tested.param); });

TEST(GgmlFields, AreNoneOfTypesWithoutScaleCodes) {
  EXPECT_EQ(ggml::info_of(ggml::Type::kQ8_0).structure, nullptr);
  EXPECT_EQ(ggml::info_of(ggml::Type::kTQ1_0).structure, nullptr);
  const std::vector<std::byte> bytes(ggml::row_bytes(ggml::Type::kMXFP4, 32));
  EXPECT_THROW(ggml_fields(ggml::Type::kMXFP4, bytes, 1, 32, open_exec("cpu", 1)), Error);
}

}  // namespace
}  // namespace calque
