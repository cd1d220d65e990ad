#include <gtest/gtest.h>

#include <cstring>

#include "calque/kernels/pack_bits.h"
#include "formats/gptq.h"
#include "formats/packed_format.h"
#include "formats/support.h"

namespace calque::formats {
namespace {

using testing::error_of;
using testing::random_quantized;

quant::Grid gptq_grid(int bits, Index group_size, bool sym, int min_zero = 0) {
  quant::Grid grid;
  grid.bits = bits;
  grid.group_size = group_size;
  grid.offset_kind = sym ? OffsetKind::kMiddleCode : OffsetKind::kZeroPoint;
  grid.min_zero = min_zero;
  return grid;
}

// A matrix of one row with the given codes, one group.
quant::QuantizedMatrix row_of(const std::vector<std::uint8_t>& codes, int bits) {
  quant::QuantizedMatrix q;
  q.grid = gptq_grid(bits, -1, true);
  q.groups().codes_NK = Matrix<std::uint8_t>(1, static_cast<Index>(codes.size()));
  for (std::size_t k = 0; k < codes.size(); ++k)
    q.groups().codes_NK(0, static_cast<Index>(k)) = codes[k];
  q.groups().scales_NG = Matrix<float>(1, 1);
  q.groups().scales_NG(0, 0) = 1.0f;
  q.groups().offsets_NG = Matrix<float>(1, 1);
  q.groups().offsets_NG(0, 0) = -static_cast<float>(1 << (bits - 1));
  return q;
}

using Words = std::vector<std::uint32_t>;

const PackedFormat& gptq_format() { return *format_named("gptq").packed; }

std::vector<NamedBytes> pack(const quant::QuantizedMatrix& q, bool v2) {
  return gptq_format().pack("m", q, {.checkpoint_format = v2 ? "gptq_v2" : "gptq"});
}

Words words_in(const std::vector<NamedBytes>& tensors, const std::string& name) {
  for (const NamedBytes& tensor : tensors) {
    if (tensor.name != "m." + name) continue;
    Words words(tensor.bytes.size() / 4);
    std::memcpy(words.data(), tensor.bytes.data(), tensor.bytes.size());
    return words;
  }
  ADD_FAILURE() << "no tensor " << name;
  return {};
}

Words qzeros_of(const quant::QuantizedMatrix& q, bool v2) {
  return words_in(pack(q, v2), "qzeros");
}

Words qweight_words(const std::vector<std::uint8_t>& codes, int bits) {
  return words_in(pack(row_of(codes, bits), false), "qweight");
}

Matrix<std::int32_t> as_matrix(const Words& words, Index rows) {
  Matrix<std::int32_t> matrix(rows, static_cast<Index>(words.size()) / rows);
  std::memcpy(matrix.data(), words.data(), 4 * words.size());
  return matrix;
}

// One group, zero points 0, 1, 2, ... of as many outputs.
quant::QuantizedMatrix with_zeros(const std::vector<int>& zeros, int bits, int min_zero) {
  quant::QuantizedMatrix q;
  const auto N = static_cast<Index>(zeros.size());
  q.grid = gptq_grid(bits, -1, false, min_zero);
  q.groups().codes_NK = Matrix<std::uint8_t>(N, 32);
  q.groups().scales_NG = Matrix<float>(N, 1);
  q.groups().offsets_NG = Matrix<float>(N, 1);
  for (Index n = 0; n < N; ++n) {
    q.groups().scales_NG(n, 0) = 0.25f;
    q.groups().offsets_NG(n, 0) = -0.25f * static_cast<float>(zeros[static_cast<std::size_t>(n)]);
  }
  return q;
}

std::vector<int> unpacked_zeros(const std::vector<std::uint32_t>& words, Index N, int bits,
                                bool v2) {
  const Matrix<std::uint8_t> zeros = unpack_gptq_zeros(as_matrix(words, 1), N, bits, v2);
  return {zeros.data(), zeros.data() + zeros.size()};
}

// Worked out by hand from the bit-stream rule.
TEST(GptqLayout, PacksFourBitCodesFromTheLowEnd) {
  EXPECT_EQ(qweight_words({1, 2, 3, 4, 5, 6, 7, 8}, 4), std::vector<std::uint32_t>{0x87654321u});
}
TEST(GptqLayout, PacksTwoBitCodes) {
  std::vector<std::uint8_t> codes(16);
  for (std::size_t k = 0; k < codes.size(); ++k) codes[k] = static_cast<std::uint8_t>(k % 4);
  EXPECT_EQ(qweight_words(codes, 2), std::vector<std::uint32_t>{0xE4E4E4E4u});
}
TEST(GptqLayout, PacksEightBitCodes) {
  EXPECT_EQ(qweight_words({1, 2, 128, 255}, 8), std::vector<std::uint32_t>{0xFF800201u});
}
TEST(GptqLayout, PacksThreeBitCodesAcrossWords) {
  std::vector<std::uint8_t> codes(32);
  for (std::size_t k = 0; k < codes.size(); ++k) codes[k] = static_cast<std::uint8_t>(k % 8);
  EXPECT_EQ(qweight_words(codes, 3),
            (std::vector<std::uint32_t>{0x88FAC688u, 0xC688FAC6u, 0xFAC688FAu}));
}

struct SymZeros {
  int bits;
  std::vector<std::uint32_t> v1;
  std::vector<std::uint32_t> v2;
};
TEST(GptqLayout, StoresTheMiddleCodeAsZeroPointOfSymmetricFiles) {
  const SymZeros cases[] = {
      {2, {0x55555555u}, {0xAAAAAAAAu}},
      {3, {0xDB6DB6DBu, 0xB6DB6DB6u, 0x6DB6DB6Du}, {0x24924924u, 0x49249249u, 0x92492492u}},
      {4, {0x77777777u}, {0x88888888u}},
      {8, {0x7F7F7F7Fu}, {0x80808080u}}};
  for (const SymZeros& c : cases) {
    const Index N = static_cast<Index>(c.v1.size()) * 32 / c.bits;
    const quant::QuantizedMatrix q = random_quantized(gptq_grid(c.bits, -1, true), N, 32, 3);
    EXPECT_EQ(qzeros_of(q, false), c.v1) << c.bits << " bits, v1";
    EXPECT_EQ(qzeros_of(q, true), c.v2) << c.bits << " bits, v2";
  }
}

// K = 64, N = 96, groups of 32.
TEST(GptqLayout, DeclaresTheFourTensorsOfALinear) {
  const auto four = gptq_format().declare("a.q_proj", 96, 64, gptq_grid(4, 32, true));
  ASSERT_EQ(four.size(), 4u);
  EXPECT_EQ(four[0].name, "a.q_proj.qweight");
  EXPECT_EQ(four[0].shape, (std::vector<Index>{8, 96}));
  EXPECT_EQ(four[1].name, "a.q_proj.qzeros");
  EXPECT_EQ(four[1].shape, (std::vector<Index>{2, 12}));
  EXPECT_EQ(four[2].name, "a.q_proj.scales");
  EXPECT_EQ(four[2].shape, (std::vector<Index>{2, 96}));
  EXPECT_EQ(four[2].dtype, DType::kF16);
  EXPECT_EQ(four[3].name, "a.q_proj.g_idx");
  EXPECT_EQ(four[3].shape, (std::vector<Index>{64}));
  EXPECT_EQ(four[3].dtype, DType::kI32);
  const auto three = gptq_format().declare("a.q_proj", 96, 64, gptq_grid(3, 32, true));
  EXPECT_EQ(three[0].shape, (std::vector<Index>{6, 96}));
  EXPECT_EQ(three[1].shape, (std::vector<Index>{2, 9}));
}

TEST(GptqLayout, PacksToTheDeclaredShapes) {
  for (const int bits : {2, 3, 4, 8}) {
    const quant::Grid grid = gptq_grid(bits, 32, true);
    const std::vector<NamedBytes> packed = pack(random_quantized(grid, 96, 64, 5), false);
    const auto declared = gptq_format().declare("m", 96, 64, grid);
    ASSERT_EQ(packed.size(), declared.size());
    for (std::size_t i = 0; i < packed.size(); ++i) {
      EXPECT_EQ(packed[i].name, declared[i].name);
      EXPECT_EQ(packed[i].bytes.size(), declared[i].byte_count()) << packed[i].name;
    }
    const Words g_idx = words_in(packed, "g_idx");
    ASSERT_EQ(g_idx.size(), 64u);
    EXPECT_EQ(g_idx[31], 0u);
    EXPECT_EQ(g_idx[32], 1u);
  }
}

TEST(GptqLayout, WritesZeroPointsAsTheyAreInV2) {
  const auto q = with_zeros({0, 1, 2, 3, 4, 5, 6, 7}, 4, 0);
  EXPECT_EQ(qzeros_of(q, true), std::vector<std::uint32_t>{0x76543210u});
}
TEST(GptqLayout, WritesZeroPointsMinusOneInV1) {
  const auto q = with_zeros({1, 2, 3, 4, 5, 6, 7, 15}, 4, 1);
  EXPECT_EQ(qzeros_of(q, false), std::vector<std::uint32_t>{0xE6543210u});
}
TEST(GptqLayout, RefusesAZeroPointOfZeroInV1) {
  const auto q = with_zeros({1, 2, 0, 4, 5, 6, 7, 8}, 4, 0);
  const Error error = error_of([&] { pack(q, false); });
  EXPECT_EQ(error.kind(), ErrorKind::kInternal);
  EXPECT_NE(std::string(error.what()).find("row 2"), std::string::npos) << error.what();
}
TEST(GptqLayout, ReadsV1FilesWhoseZeroPointsWereSubtractedOverTheWholeWord) {
  EXPECT_EQ(unpacked_zeros({0x654320FFu}, 8, 4, false), (std::vector<int>{0, 1, 2, 3, 4, 5, 6, 7}));
}
TEST(GptqLayout, ReadsV2ZeroPointsAsTheyAre) {
  EXPECT_EQ(unpacked_zeros({0x76543210u}, 8, 4, true), (std::vector<int>{0, 1, 2, 3, 4, 5, 6, 7}));
}
// 3 bits: each field modulo 8; a stored 7 is zero point 0.
TEST(GptqLayout, AddsOneToEachThreeBitField) {
  std::vector<int> zeros(32);
  Matrix<std::uint8_t> fields(1, 32);
  for (int i = 0; i < 32; ++i) {
    zeros[static_cast<std::size_t>(i)] = i % 8;
    fields(0, i) = static_cast<std::uint8_t>((i + 7) % 8);
  }
  Matrix<std::int32_t> words(1, 3);
  pack_rows(fields, 3, words);
  EXPECT_EQ(unpacked_zeros({words.data(), words.data() + words.size()}, 32, 3, false), zeros);
}
// With no zero point of 0 the two rules for v1, by field and by word, agree.
TEST(GptqLayout, V1AndV2ReadBackTheSameZeroPoints) {
  for (const int bits : {2, 3, 4, 8}) {
    const auto q = random_quantized(gptq_grid(bits, 32, false, 1), 96, 64, 11);
    const Matrix<std::uint8_t> v1 =
        unpack_gptq_zeros(as_matrix(qzeros_of(q, false), 2), 96, bits, false);
    const Matrix<std::uint8_t> v2 =
        unpack_gptq_zeros(as_matrix(qzeros_of(q, true), 2), 96, bits, true);
    for (Index g = 0; g < v1.rows(); ++g)
      for (Index n = 0; n < 96; ++n) {
        ASSERT_EQ(v1(g, n), v2(g, n)) << bits << " bits";
        ASSERT_EQ(-q.groups().scales_NG(n, g) * static_cast<float>(v1(g, n)),
                  q.groups().offsets_NG(n, g));
      }
  }
}

TEST(GptqLayout, RefusesAScaleThatBinary16CannotHold) {
  auto q = row_of(std::vector<std::uint8_t>(32, 1), 4);
  q.groups().scales_NG(0, 0) = 0.1f;
  const Error error = error_of([&] { pack(q, true); });
  EXPECT_EQ(error.kind(), ErrorKind::kInternal);
  EXPECT_NE(std::string(error.what()).find("binary16"), std::string::npos) << error.what();
}

}  // namespace
}  // namespace calque::formats
