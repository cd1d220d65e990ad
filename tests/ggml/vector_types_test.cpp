// The types whose codes are vectors: IQ1, IQ2 and IQ3. Blocks and checksums are llama.cpp's and
// gguf-py's (tests/fixtures/ggml/README.md).
#include <gtest/gtest.h>

#include <cmath>
#include <fstream>
#include <iterator>
#include <random>
#include <span>

#include "calque/core/dtype.h"
#include "ggml/ggml_samples.h"
#include "ggml/types/codec.h"
#include "ggml/types/vector_bytes.h"
#include "support/paths.h"

namespace calque {
namespace {

using ggml::Type;

std::vector<std::byte> fixture(const std::string& name) {
  std::ifstream file(std::string(test::fixtures()) + "/ggml/weight_16x256." + name,
                     std::ios::binary);
  EXPECT_TRUE(file) << name;
  const std::string bytes((std::istreambuf_iterator<char>(file)), {});
  std::vector<std::byte> result;
  for (const char c : bytes) result.push_back(static_cast<std::byte>(c));
  return result;
}

std::uint32_t crc_of_floats(const Matrix<float>& values) {
  const auto raw = std::as_bytes(std::span(values.data(), static_cast<std::size_t>(values.size())));
  return crc32({raw.begin(), raw.end()});
}

// zlib.crc32 of gguf-py's tables: the points' values one after another, a byte an element.
template <typename V>
std::uint32_t crc_of_grid() {
  std::vector<std::byte> bytes;
  for (const auto& point : ggml::point_values<V>())
    for (const float value : point)
      bytes.push_back(static_cast<std::byte>(static_cast<int>(value)));
  return crc32(bytes);
}

TEST(VectorGrids, HaveTheFormatsPoints) {
  EXPECT_EQ(crc_of_grid<ggml::Iq2Xxs>(), 0x9924ff02u);
  EXPECT_EQ(crc_of_grid<ggml::Iq2Xs>(), 0xfa1e1bfdu);
  EXPECT_EQ(crc_of_grid<ggml::Iq2S>(), 0x25ae5bf1u);
  EXPECT_EQ(crc_of_grid<ggml::Iq3Xxs>(), 0x07ba9ed0u);
  EXPECT_EQ(crc_of_grid<ggml::Iq3S>(), 0xf576e4f3u);
  EXPECT_EQ(crc_of_grid<ggml::Iq1S>(), 0xb85e6ccfu);
  EXPECT_EQ(crc_of_grid<ggml::Iq1M>(), 0xb85e6ccfu);
}

struct Golden {
  Type type;
  std::uint32_t values;    // CRC-32 of the fixture's four rows
  std::uint32_t weighted;  // the same of sixteen rows' blocks, with importance
  std::uint32_t plain;     // without; 0: llama.cpp has no such rounding
};

const Golden kGolden[] = {
    {Type::kIQ2_XXS, 0xcd78665e, 0x48475b12, 0},
    {Type::kIQ2_XS, 0x4ab22ae9, 0x4169fd42, 0},
    {Type::kIQ2_S, 0x68af216a, 0x231a8f29, 0x3c0bc0c5},
    {Type::kIQ3_XXS, 0x643f43fd, 0xdeae23ff, 0xb68608c4},
    {Type::kIQ3_S, 0x3794dc5d, 0x7027ef51, 0x204ea037},
    {Type::kIQ1_S, 0x0ad3e2f5, 0x2eb21795, 0},
    {Type::kIQ1_M, 0xe0f77560, 0x28e96f59, 0x4359450f},
};

class VectorTypes : public testing::TestWithParam<Golden> {
 protected:
  const Type type_ = GetParam().type;
};

TEST_P(VectorTypes, DecodeAsGgufPy) {
  const std::vector<std::byte> bytes = fixture(name_of_type(type_) + ".weighted");
  EXPECT_EQ(crc_of_floats(ggml_values(type_, bytes, 4, 256)), GetParam().values);
}

Matrix<float> sixteen_rows() {
  Matrix<float> x(16, 256);
  convert_to_float(fixture("f32").data(), DType::kF32, 16 * 256, x.data());
  return x;
}

std::vector<float> importance() {
  std::vector<float> weights(256);
  convert_to_float(fixture("importance.f32").data(), DType::kF32, 256, weights.data());
  return weights;
}

// Row 5 starts with 128 zeros. llama.cpp's IQ3_S writes the vectors after a group of zeros in that
// group's place, where its readers do not look for them; calque leaves the group's place zero.
std::vector<std::byte> with_the_references_fault(std::vector<std::byte> bytes) {
  constexpr std::size_t kBytes = 110, kPoints = 2, kSigns = 74;
  std::byte* row = bytes.data() + 5 * kBytes;
  const auto to_the_front = [&](std::size_t from, std::size_t count) {
    std::copy_n(row + from + count, count, row + from);
    std::fill_n(row + from + count, count, std::byte{0});
  };
  to_the_front(kPoints, 32);
  to_the_front(kSigns, 16);
  return bytes;
}

TEST_P(VectorTypes, RoundAsLlamaCpp) {
  for (const ggml::Copy& copy : ggml::runnable_copies()) {
    SCOPED_TRACE(copy.instruction_set);
    const auto rounded = [&](const float* weights) {
      const Matrix<float> x = sixteen_rows();
      std::vector<std::byte> bytes(16 * ggml::row_bytes(type_, 256));
      for (Index n = 0; n < 16; ++n)
        copy.find_codec(type_)->quantize(
            {x.row(n), weights, 256},
            bytes.data() + static_cast<std::size_t>(n) * ggml::row_bytes(type_, 256));
      return crc32(type_ == Type::kIQ3_S ? with_the_references_fault(bytes) : bytes);
    };
    EXPECT_EQ(rounded(importance().data()), GetParam().weighted);
    if (GetParam().plain == 0) continue;
    EXPECT_EQ(rounded(nullptr), GetParam().plain);
  }
}

// 41 super-blocks: whole strips of any register width and a part of one.
TEST_P(VectorTypes, RoundEachSuperBlockAlone) {
  constexpr Index kBlocks = 41;
  const std::vector<float> row = ggml_noise(kBlocks * 256);
  const std::vector<float> weights = ggml_importance(kBlocks * 256);
  const auto whole =
      ggml_quantized(type_, MatrixView<const float>(row.data(), 1, kBlocks * 256), weights);
  std::vector<std::byte> apart;
  for (Index b = 0; b < kBlocks; ++b) {
    const auto block = ggml_quantized(type_, MatrixView<const float>(row.data() + b * 256, 1, 256),
                                      {weights.begin() + b * 256, weights.begin() + (b + 1) * 256});
    apart.insert(apart.end(), block.begin(), block.end());
  }
  EXPECT_EQ(whole, apart);
}

// Weights of no importance give no fit and no fault.
TEST_P(VectorTypes, HoldZerosTinyWeightsAndWeightsOfNoImportance) {
  for (const GgmlInput input : {GgmlInput::kZeros, GgmlInput::kTiny, GgmlInput::kSpikes,
                                GgmlInput::kOnes, GgmlInput::kMinusOnes, GgmlInput::kRamp,
                                GgmlInput::kNegativeRamp, GgmlInput::kNoiseUnimportant})
    for (const auto& weights : {std::vector<float>{}, ggml_importance_of(input)}) {
      const auto bytes = ggml_quantized(type_, ggml_input(input), weights);
      EXPECT_EQ(ggml::first_fault(type_, bytes, 256), "");
      const Matrix<float> y = ggml_values(type_, bytes, 2, 256);
      const float bound = input == GgmlInput::kZeros ? 1e-30f : 4.0f;
      for (Index i = 0; i < y.size(); ++i) ASSERT_LT(std::abs(y.data()[i]), bound) << i;
    }
}

INSTANTIATE_TEST_SUITE_P(Iq, VectorTypes, testing::ValuesIn(kGolden),
                         [](const auto& test) { return name_of_type(test.param.type); });

template <typename V>
class VectorBytes : public testing::Test {};
using Layouts = testing::Types<ggml::Iq2Xxs, ggml::Iq2Xs, ggml::Iq2S, ggml::Iq3Xxs, ggml::Iq3S,
                               ggml::Iq1S, ggml::Iq1M>;
TYPED_TEST_SUITE(VectorBytes, Layouts);

// Every bit of a block is a bit of a field; steps that are no NaN come back, too.
TYPED_TEST(VectorBytes, ComeBackFromTheirFields) {
  std::mt19937 generator(11);
  for (int trial = 0; trial < 50; ++trial) {
    std::vector<std::byte> bytes(ggml::info_of(TypeParam::kType).block_bytes);
    for (std::byte& byte : bytes) byte = static_cast<std::byte>(generator() & 255);
    bytes[TypeParam::kType == Type::kIQ1_M ? 55 : 1] &= std::byte{0xBB};
    ggml::VectorBlock block{};
    TypeParam::load(bytes.data(), block);
    std::vector<std::byte> again(bytes.size(), std::byte{0x5A});
    TypeParam::store(block, again.data());
    ASSERT_EQ(again, bytes);
  }
}

// By hand: step 2, scale code 3, point 1 of IQ2_XXS (43, 8, ...), signs 1 and so, by parity, 129.
TEST(VectorBlocks, DecodeAsByHand) {
  std::vector<std::byte> block(66);
  block[1] = std::byte{0x40};  // binary16 2.0
  block[2] = std::byte{1};
  block[6] = std::byte{1};
  block[9] = std::byte{0x30};
  const Matrix<float> y = ggml_values(Type::kIQ2_XXS, block, 1, 256);
  EXPECT_EQ(y(0, 0), -2 * 3.5f * 0.25f * 43);
  EXPECT_EQ(y(0, 1), 2 * 3.5f * 0.25f * 8);
  EXPECT_EQ(y(0, 7), -2 * 3.5f * 0.25f * 8);
  EXPECT_EQ(y(0, 32), 2 * 0.5f * 0.25f * 8);
}

}  // namespace
}  // namespace calque
