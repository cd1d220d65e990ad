#include "formats/gguf_tensors.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <random>

#include "calque/core/dtype.h"
#include "calque/io/file.h"
#include "calque/io/json.h"
#include "formats/golden_blocks.h"
#include "formats/support.h"

namespace calque::formats {
namespace {

using testing::error_of;
using testing::random_quantized;
using testing::sha256_of;

std::vector<std::byte> from_hex(std::string_view hex) {
  std::vector<std::byte> bytes;
  for (std::size_t i = 0; i + 1 < hex.size(); i += 2)
    bytes.push_back(static_cast<std::byte>(std::stoi(std::string(hex.substr(i, 2)), nullptr, 16)));
  return bytes;
}

ggml::Type type_named(std::string_view name) {
  const ggml::TypeInfo* info = ggml::find_type(name);
  EXPECT_NE(info, nullptr) << name;
  return info->type;
}

Matrix<float> decode_golden(std::string_view name) {
  for (const testing::GoldenBlock& block : testing::kGoldenBlocks)
    if (block.type == name) {
      const ggml::Type type = type_named(name);
      return decode_rows(type, from_hex(block.hex), 1, ggml::info_of(type).block_columns, {});
    }
  ADD_FAILURE() << name;
  return {};
}

// The pseudo-random vector that the golden blocks were made from.
std::vector<float> golden_input(int count) {
  std::vector<float> x;
  std::uint32_t s = 1;
  for (int i = 0; i < count; ++i) {
    s = s * 1664525u + 1013904223u;
    x.push_back((static_cast<float>(s >> 16) - 32768.0f) / 32768.0f);
  }
  return x;
}

// Elements worked out by hand from the formulas in src/ggml/README.md, 8 digits after the point.
// Tolerance: half of the last digit printed, twice that where nine digits were rounded from a
// longer product.
struct Element {
  std::string_view type;
  int index;
  double value;
};
TEST(GgmlBlocks, DecodeTheElementsWorkedOutByHand) {
  const Element elements[] = {
      {"Q4_0", 3, 0.36254883},    {"Q4_0", 19, 0.12084961},    {"Q4_1", 3, 0.44714355},
      {"Q4_1", 19, 0.06152344},   {"Q5_0", 3, 0.42297363},     {"Q5_0", 19, 0.0604248},
      {"Q5_1", 3, 0.40216064},    {"Q5_1", 19, 0.09103394},    {"Q8_0", 3, 0.41116333},
      {"Q8_0", 19, 0.06091309},   {"Q2_K", 77, -0.84979248},   {"Q2_K", 200, 0.19244385},
      {"Q3_K", 77, -0.81511688},  {"Q3_K", 200, 0.0},          {"Q4_K", 77, -0.71185303},
      {"Q4_K", 200, -0.06985474}, {"Q5_K", 77, -0.72026825},   {"Q5_K", 200, -0.05299187},
      {"Q6_K", 77, -0.71532822},  {"Q6_K", 200, -0.03110123},  {"IQ4_NL", 3, 0.42498016},
      {"IQ4_NL", 19, 0.10424042}, {"IQ4_XS", 77, -0.73876953}, {"IQ4_XS", 200, -0.08041382}};
  for (const Element& e : elements)
    EXPECT_NEAR(decode_golden(e.type)(0, e.index), e.value, 2e-8) << e.type << " " << e.index;
}

// The type's steps bound what any rounding can have lost: the root mean square over two rows is
// published with the vectors, and one block may be worse than two rows by a small factor.
TEST(GgmlBlocks, DecodeCloseToWhatWasEncoded) {
  const std::pair<std::string_view, double> published[] = {
      {"Q4_0", 0.03822224}, {"Q4_1", 0.03604557}, {"Q5_0", 0.01778223},   {"Q5_1", 0.01675639},
      {"Q8_0", 0.00225373}, {"Q2_K", 0.13163063}, {"Q3_K", 0.07141231},   {"Q4_K", 0.03327898},
      {"Q5_K", 0.01595700}, {"Q6_K", 0.00767059}, {"IQ4_NL", 0.03785805}, {"IQ4_XS", 0.03809383}};
  const std::vector<float> input = golden_input(256);
  for (const auto& [type, rmse] : published) {
    const Matrix<float> values = decode_golden(type);
    double sum = 0;
    for (Index i = 0; i < values.cols(); ++i) {
      const double e = values(0, i) - input[static_cast<std::size_t>(i)];
      sum += e * e;
    }
    EXPECT_LT(std::sqrt(sum / static_cast<double>(values.cols())), 1.5 * rmse) << type;
  }
}

// Rows of llama.cpp's files, and single blocks of ggml; expected values from the `gguf` Python
// package (see the README of the fixtures), bit for bit.
TEST(GgmlBlocks, DecodeAsTheReferencePackageDoes) {
  const auto golden = io::parse_json(io::read_file(testing::fixture("gguf/super_blocks.json")));
  EXPECT_EQ(golden.size(), 10u);
  for (const auto& [name, block] : golden.members()) {
    Matrix<float> values =
        decode_rows(type_named(name), from_hex(block.at("bytes").get<std::string>()),
                    block.at("rows").get<Index>(), block.at("columns").get<Index>(), {});
    // The fixture has no negative zeros.
    for (Index i = 0; i < values.size(); ++i) values.data()[i] += 0.0f;
    EXPECT_EQ(sha256_of(values), block.at("sha256").get<std::string>()) << name;
  }
}

constexpr std::string_view kWritable[] = {"Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0"};

// Every pattern of codes is legal; only a scale that is not finite is not.
TEST(GgmlBlocks, PackWhatTheyUnpackedToTheSameBytes) {
  std::mt19937 random(17);
  for (const std::string_view name : kWritable) {
    const ggml::Type type = type_named(name);
    const ggml::TypeInfo& info = ggml::info_of(type);
    std::vector<std::byte> bytes(static_cast<std::size_t>(7 * 3 * info.block_bytes));
    for (std::byte& b : bytes) b = static_cast<std::byte>(random() & 0xFF);
    for (std::size_t at = 0; at < bytes.size(); at += static_cast<std::size_t>(info.block_bytes)) {
      bytes[at + 1] &= std::byte{0xBF};  // exponent below 31: a finite scale
      if (name.ends_with("_1")) bytes[at + 3] &= std::byte{0xBF};
    }
    EXPECT_EQ(pack_rows(type, unpack_rows(type, bytes, 7, 96, {}), {}), bytes) << name;
  }
}

TEST(GgmlBlocks, UnpackWhatTheyPackedToTheSameValues) {
  for (const std::string_view name : kWritable) {
    const ggml::Type type = type_named(name);
    const quant::QuantizedMatrix q = random_quantized(neutral_grid(type), 7, 96, 23);
    SCOPED_TRACE(name);
    testing::expect_same(unpack_rows(type, pack_rows(type, q, {}), 7, 96, {}), q);
  }
}

// Q4_1 by hand: d = 0.5 (0x3800), m = -1 (0xBC00), code of element k is k % 16: the first half in
// the low nibbles, the second in the high ones.
TEST(GgmlBlocks, PackABlockWrittenOutByHand) {
  const ggml::Type type = ggml::Type::kQ4_1;
  quant::QuantizedMatrix q = random_quantized(neutral_grid(type), 1, 32, 1);
  for (Index k = 0; k < 32; ++k) q.groups().codes_NK(0, k) = static_cast<std::uint8_t>(k % 16);
  q.groups().scales_NG(0, 0) = 0.5f;
  q.groups().offsets_NG(0, 0) = -1.0f;
  EXPECT_EQ(pack_rows(type, q, {}), from_hex("003800bc00112233445566778899aabbccddeeff"));
}

TEST(GgmlBlocks, RefuseAScaleOrMinimumThatBinary16CannotHold) {
  const ggml::Type type = ggml::Type::kQ4_1;
  quant::QuantizedMatrix q = random_quantized(neutral_grid(type), 2, 64, 1);
  q.groups().offsets_NG(1, 1) = 0.1f;
  const Error error = error_of([&] { pack_rows(type, q, {}); });
  EXPECT_EQ(error.kind(), ErrorKind::kInternal);
  EXPECT_NE(std::string(error.what()).find("minimum 0.1 of row 1, group 1"), std::string::npos)
      << error.what();
}

TEST(GgmlBlocks, NameTheTypeThatCannotBeDecoded) {
  const std::vector<std::byte> block(18);
  const Error error = error_of([&] { decode_rows(ggml::Type::kQ2_0, block, 1, 64, {}); });
  EXPECT_EQ(error.kind(), ErrorKind::kInput);
  EXPECT_NE(std::string(error.what()).find("Q2_0"), std::string::npos) << error.what();
}

// src/formats/README.md, "Q and K rows": with head_dim 4, rows a b c d are stored a c b d.
TEST(InterleavedRows, PutTheHalvesOfAHeadSideBySide) {
  EXPECT_EQ(interleaved_rows(4, 1), (std::vector<Index>{0, 2, 1, 3}));
  EXPECT_EQ(interleaved_rows(12, 2), (std::vector<Index>{0, 3, 1, 4, 2, 5, 6, 9, 7, 10, 8, 11}));
}
TEST(InterleavedRows, AreEmptyForAnUnpermutedTensor) {
  EXPECT_TRUE(interleaved_rows(8, 0).empty());
}

TEST(InterleavedRows, MovePackedRowsWhole) {
  const ggml::Type type = ggml::Type::kQ8_0;
  const quant::QuantizedMatrix q = random_quantized(neutral_grid(type), 4, 32, 9);
  const std::vector<Index> order = interleaved_rows(4, 1);
  const std::vector<std::byte> straight = pack_rows(type, q, {});
  const std::vector<std::byte> stored = pack_rows(type, q, order);
  for (std::size_t r = 0; r < 4; ++r)
    EXPECT_EQ(std::memcmp(stored.data() + r * 34,
                          straight.data() + static_cast<std::size_t>(order[r]) * 34, 34),
              0);
  testing::expect_same(unpack_rows(type, stored, 4, 32, order), q);
}

}  // namespace
}  // namespace calque::formats
