#include "calque/ggml/fields.h"

#include <gtest/gtest.h>

#include <random>

#include "calque/core/error.h"
#include "ggml/ggml_samples.h"

namespace calque {
namespace {

constexpr Index kRows = 3;
constexpr Index kColumns = 512;

// Where the binary16 steps of a block are.
std::vector<std::size_t> step_offsets(GgmlBlock type) {
  switch (type) {
    case GgmlBlock::kQ2_K:
      return {80, 82};
    case GgmlBlock::kQ3_K:
      return {108};
    case GgmlBlock::kQ6_K:
      return {208};
    case GgmlBlock::kIQ4_NL:
    case GgmlBlock::kIQ4_XS:
      return {0};
    default:
      return {0, 2};
  }
}

// Every byte of a block is free but the steps, which must be finite: no exponent of all ones.
std::vector<std::byte> random_blocks(GgmlBlock type) {
  std::mt19937 generator(11);
  std::vector<std::byte> bytes(static_cast<std::size_t>(kRows) * ggml_row_bytes(type, kColumns));
  for (std::byte& byte : bytes) byte = static_cast<std::byte>(generator() & 255);
  for (std::size_t block = 0; block < bytes.size(); block += ggml_block_bytes(type))
    for (const std::size_t step : step_offsets(type)) bytes[block + step + 1] &= std::byte{0xBB};
  return bytes;
}

class GgmlFieldsOf : public ::testing::TestWithParam<GgmlBlock> {
 protected:
  const GgmlStructure& structure_ = *find_ggml_structure(GetParam());
  const Exec exec_ = open_exec("cpu", 2);
};

std::vector<std::byte> there_and_back(GgmlBlock type, const std::vector<std::byte>& bytes,
                                      Index rows, Index columns, const Exec& exec) {
  const GgmlFields fields = ggml_fields(type, bytes, rows, columns, exec);
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
  const GgmlFields f = ggml_fields(GetParam(), bytes, kRows, kColumns, exec_);
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
  const GgmlFields f = ggml_fields(GetParam(), random_blocks(GetParam()), kRows, kColumns, exec_);
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
            GetParam() != GgmlBlock::kIQ4_NL && GetParam() != GgmlBlock::kIQ4_XS);
}

INSTANTIATE_TEST_SUITE_P(Types, GgmlFieldsOf,
                         ::testing::Values(GgmlBlock::kQ2_K, GgmlBlock::kQ3_K, GgmlBlock::kQ4_K,
                                           GgmlBlock::kQ5_K, GgmlBlock::kQ6_K, GgmlBlock::kIQ4_NL,
                                           GgmlBlock::kIQ4_XS),
                         [](const auto& tested) { return name_of_type(tested.param); });

TEST(GgmlFields, AreNoneOfTypesWithoutScaleCodes) {
  EXPECT_EQ(find_ggml_structure(GgmlBlock::kQ8_0), nullptr);
  EXPECT_EQ(find_ggml_structure(GgmlBlock::kTQ1_0), nullptr);
  const std::vector<std::byte> bytes(ggml_row_bytes(GgmlBlock::kMXFP4, 32));
  EXPECT_THROW(ggml_fields(GgmlBlock::kMXFP4, bytes, 1, 32, open_exec("cpu", 1)), Error);
}

}  // namespace
}  // namespace calque
