#include "calque/kernels/pack_bits.h"

#include <algorithm>
#include <cassert>

#include "kernels/checks.h"

namespace calque {
namespace {

// Where code `index` of a vector lies in its stream of words.
struct Place {
  Index word;
  int shift;
  int spill;  // bits that continue in the next word, 0 if none
};

Place place_of(Index index, int bits) {
  const Index bit = index * bits;
  const int shift = static_cast<int>(bit % 32);
  return {bit / 32, shift, std::max(0, shift + bits - 32)};
}

void set_bits(std::int32_t& word, std::uint32_t bits) {
  word = static_cast<std::int32_t>(static_cast<std::uint32_t>(word) | bits);
}

std::uint32_t bits_of(std::int32_t word) { return static_cast<std::uint32_t>(word); }

template <typename T>
void clear(MatrixView<T> view) {
  for (Index r = 0; r < view.rows(); ++r) std::fill_n(view.row(r), view.cols(), T{});
}

void pack_row(const std::uint8_t* codes, Index count, int bits, std::int32_t* words) {
  std::uint64_t pending = 0;
  int pending_bits = 0;
  for (Index i = 0; i < count; ++i) {
    assert(codes[i] >> bits == 0);
    pending |= static_cast<std::uint64_t>(codes[i]) << pending_bits;
    pending_bits += bits;
    if (pending_bits < 32) continue;
    *words++ = static_cast<std::int32_t>(static_cast<std::uint32_t>(pending));
    pending >>= 32;
    pending_bits -= 32;
  }
  if (pending_bits > 0) *words = static_cast<std::int32_t>(static_cast<std::uint32_t>(pending));
}

}  // namespace

Index packed_words(Index count, int bits) {
  expect_range("packed_words", "bits", bits, 1, 8);
  return (count * bits + 31) / 32;
}

void pack_columns(MatrixView<const std::uint8_t> codes_KN, int bits,
                  MatrixView<std::int32_t> words_PN) {
  expect_shape("pack_columns", "words_PN", words_PN, packed_words(codes_KN.rows(), bits),
               codes_KN.cols());
  clear(words_PN);
  for (Index k = 0; k < codes_KN.rows(); ++k) {
    const Place place = place_of(k, bits);
    const std::uint8_t* codes = codes_KN.row(k);
    std::int32_t* words = words_PN.row(place.word);
    for (Index n = 0; n < codes_KN.cols(); ++n)
      set_bits(words[n], std::uint32_t{codes[n]} << place.shift);
    if (place.spill == 0) continue;
    std::int32_t* next = words_PN.row(place.word + 1);
    for (Index n = 0; n < codes_KN.cols(); ++n)
      set_bits(next[n], std::uint32_t{codes[n]} >> (bits - place.spill));
  }
}

void unpack_columns(MatrixView<const std::int32_t> words_PN, int bits,
                    MatrixView<std::uint8_t> codes_KN) {
  expect_shape("unpack_columns", "words_PN", words_PN, packed_words(codes_KN.rows(), bits),
               codes_KN.cols());
  const std::uint32_t mask = (1u << bits) - 1;
  for (Index k = 0; k < codes_KN.rows(); ++k) {
    const Place place = place_of(k, bits);
    const std::int32_t* words = words_PN.row(place.word);
    std::uint8_t* codes = codes_KN.row(k);
    for (Index n = 0; n < codes_KN.cols(); ++n)
      codes[n] = static_cast<std::uint8_t>((bits_of(words[n]) >> place.shift) & mask);
    if (place.spill == 0) continue;
    const std::int32_t* next = words_PN.row(place.word + 1);
    for (Index n = 0; n < codes_KN.cols(); ++n)
      codes[n] |= static_cast<std::uint8_t>((bits_of(next[n]) << (bits - place.spill)) & mask);
  }
}

void pack_rows(MatrixView<const std::uint8_t> codes_RC, int bits,
               MatrixView<std::int32_t> words_RP) {
  expect_shape("pack_rows", "words_RP", words_RP, codes_RC.rows(),
               packed_words(codes_RC.cols(), bits));
  for (Index r = 0; r < codes_RC.rows(); ++r)
    pack_row(codes_RC.row(r), codes_RC.cols(), bits, words_RP.row(r));
}

void unpack_rows(MatrixView<const std::int32_t> words_RP, int bits,
                 MatrixView<std::uint8_t> codes_RC) {
  expect_shape("unpack_rows", "words_RP", words_RP, codes_RC.rows(),
               packed_words(codes_RC.cols(), bits));
  const std::uint32_t mask = (1u << bits) - 1;
  for (Index r = 0; r < codes_RC.rows(); ++r) {
    const std::int32_t* words = words_RP.row(r);
    for (Index c = 0; c < codes_RC.cols(); ++c) {
      const Place place = place_of(c, bits);
      std::uint32_t code = bits_of(words[place.word]) >> place.shift;
      if (place.spill > 0) code |= bits_of(words[place.word + 1]) << (bits - place.spill);
      codes_RC(r, c) = static_cast<std::uint8_t>(code & mask);
    }
  }
}

}  // namespace calque
