#include "calque/kernels/pack_bits.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>
#include <vector>

#include "calque/core/error.h"
#include "kernels/devices.h"

namespace calque {
namespace {

using Codes = std::vector<std::uint8_t>;
using Words = std::vector<std::uint32_t>;

Words pack_as_row(Codes codes, int bits) {
  const Index count = static_cast<Index>(codes.size());
  Matrix<std::int32_t> words(1, packed_words(count, bits));
  pack_rows(MatrixView<const std::uint8_t>(codes.data(), 1, count), bits, words);
  return {words.data(), words.data() + words.size()};
}

Words pack_as_column(Codes codes, int bits) {
  const Index count = static_cast<Index>(codes.size());
  Matrix<std::int32_t> words(packed_words(count, bits), 1);
  pack_columns(MatrixView<const std::uint8_t>(codes.data(), count, 1), bits, words);
  return {words.data(), words.data() + words.size()};
}

Codes counting(std::size_t count, int modulus, int first = 0) {
  Codes codes;
  for (std::size_t i = 0; i < count; ++i)
    codes.push_back(static_cast<std::uint8_t>((static_cast<int>(i) + first) % modulus));
  return codes;
}

struct Known {
  int bits;
  Codes codes;
  Words words;
};

// Words written out by hand from the definition: code i at bits [bits i, bits (i + 1)), low bit
// first. The repeated fields are what GPTQ files hold as zero points.
const std::vector<Known>& known_vectors() {
  static const std::vector<Known> kKnown = {
      {4, counting(8, 16, 1), {0x87654321}},
      {2, counting(16, 4), {0xE4E4E4E4}},
      {8, {1, 2, 128, 255}, {0xFF800201}},
      {3, counting(32, 8), {0x88FAC688, 0xC688FAC6, 0xFAC688FA}},
      {2, Codes(16, 1), {0x55555555}},
      {4, Codes(8, 7), {0x77777777}},
      {8, Codes(4, 127), {0x7F7F7F7F}},
      {2, Codes(16, 2), {0xAAAAAAAA}},
      {4, Codes(8, 8), {0x88888888}},
      {8, Codes(4, 128), {0x80808080}},
      {3, Codes(32, 3), {0xDB6DB6DB, 0xB6DB6DB6, 0x6DB6DB6D}},
      {3, Codes(32, 4), {0x24924924, 0x49249249, 0x92492492}},
      {5, {31, 0, 0, 0, 0, 0, 31}, {0xC000001F, 0x00000007}},
      {7, {127, 0, 0, 0, 127}, {0xF000007F, 0x00000007}},
      {1, {1, 0, 1, 1}, {0x0000000D}},
  };
  return kKnown;
}

TEST(PackBits, PacksRowsAsTheBitStreamRuleSays) {
  for (const Known& known : known_vectors())
    EXPECT_EQ(pack_as_row(known.codes, known.bits), known.words) << known.bits << " bits";
}

TEST(PackBits, PacksColumnsAsTheBitStreamRuleSays) {
  for (const Known& known : known_vectors())
    EXPECT_EQ(pack_as_column(known.codes, known.bits), known.words) << known.bits << " bits";
}

TEST(PackBits, UnpacksWhatItPacked) {
  std::mt19937 generator(31);
  for (int bits = 1; bits <= 8; ++bits) {
    Matrix<std::uint8_t> codes(37, 45);
    for (Index i = 0; i < codes.size(); ++i)
      codes.data()[i] = static_cast<std::uint8_t>(generator() & ((1u << bits) - 1));
    Matrix<std::uint8_t> back(37, 45);
    Matrix<std::int32_t> columns(packed_words(37, bits), 45);
    pack_columns(codes, bits, columns);
    unpack_columns(columns, bits, back);
    EXPECT_TRUE(std::equal(codes.data(), codes.data() + codes.size(), back.data())) << bits;
    std::fill_n(back.data(), back.size(), std::uint8_t{0});
    Matrix<std::int32_t> rows(37, packed_words(45, bits));
    pack_rows(codes, bits, rows);
    unpack_rows(rows, bits, back);
    EXPECT_TRUE(std::equal(codes.data(), codes.data() + codes.size(), back.data())) << bits;
  }
}

TEST(PackBits, OverwritesWhatWasInTheWords) {
  Matrix<std::uint8_t> codes(8, 1);
  Matrix<std::int32_t> words(1, 1);
  words(0, 0) = -1;
  pack_columns(codes, 4, words);
  EXPECT_EQ(words(0, 0), 0);
}

TEST(PackBits, CountsWordsRoundedUp) {
  EXPECT_EQ(packed_words(0, 4), 0);
  EXPECT_EQ(packed_words(1, 1), 1);
  EXPECT_EQ(packed_words(32, 3), 3);
  EXPECT_EQ(packed_words(33, 3), 4);
}

TEST(PackBits, RefusesMoreThanEightBitsAndWrongShapes) {
  EXPECT_THROW(packed_words(4, 9), Error);
  EXPECT_THROW(packed_words(4, 0), Error);
  Matrix<std::uint8_t> codes(8, 2);
  Matrix<std::int32_t> words(2, 2);
  try {
    pack_columns(codes, 4, words);
    FAIL();
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), ::testing::HasSubstr("words_PN is 2 x 2, expected 1 x 2"));
  }
}

class PackBitsOn : public ::testing::TestWithParam<std::string> {
 protected:
  Exec exec_ = open_exec(GetParam(), 2);
};

TEST_P(PackBitsOn, GivesTheWordsOfTheBitStreamRule) {
  for (const Known& known : known_vectors()) {
    const Index count = static_cast<Index>(known.codes.size());
    const Index length = packed_words(count, known.bits);
    Matrix<std::int32_t> row(1, length), column(length, 1);
    pack_rows(MatrixView<const std::uint8_t>(known.codes.data(), 1, count), known.bits, row, exec_);
    pack_columns(MatrixView<const std::uint8_t>(known.codes.data(), count, 1), known.bits, column,
                 exec_);
    EXPECT_EQ(Words(row.data(), row.data() + length), known.words) << known.bits << " bits";
    EXPECT_EQ(Words(column.data(), column.data() + length), known.words) << known.bits << " bits";
  }
}

// Several blocks of columns and words that straddle, out of a wider matrix and into one.
TEST_P(PackBitsOn, PacksViewsWithAStride) {
  std::mt19937 generator(32);
  for (int bits = 1; bits <= 8; ++bits) {
    Matrix<std::uint8_t> wide(37, 700);
    for (Index i = 0; i < wide.size(); ++i)
      wide.data()[i] = static_cast<std::uint8_t>(generator() & ((1u << bits) - 1));
    const MatrixView<const std::uint8_t> codes = wide.view().cols(3, 605);
    Matrix<std::uint8_t> back(37, 605);
    Matrix<std::int32_t> columns(packed_words(37, bits), 620);
    pack_columns(codes, bits, columns.view().cols(9, 605), exec_);
    unpack_columns(columns.view().cols(9, 605), bits, back);
    for (Index r = 0; r < 37; ++r)
      EXPECT_TRUE(std::equal(codes.row(r), codes.row(r) + 605, back.row(r))) << bits;
    EXPECT_EQ(columns(0, 8) | columns(0, 614), 0) << "beside the view";
    Matrix<std::int32_t> rows(37, packed_words(605, bits));
    pack_rows(codes, bits, rows, exec_);
    std::fill_n(back.data(), back.size(), std::uint8_t{0});
    unpack_rows(rows, bits, back);
    for (Index r = 0; r < 37; ++r)
      EXPECT_TRUE(std::equal(codes.row(r), codes.row(r) + 605, back.row(r))) << bits;
  }
}

TEST_P(PackBitsOn, RefusesWrongShapes) {
  Matrix<std::uint8_t> codes(8, 2);
  Matrix<std::int32_t> words(2, 2);
  EXPECT_THROW(pack_columns(codes, 4, words, exec_), Error);
  EXPECT_THROW(pack_rows(codes, 4, words, exec_), Error);
}

CALQUE_ON_EVERY_DEVICE(PackBitsOn);

}  // namespace
}  // namespace calque
