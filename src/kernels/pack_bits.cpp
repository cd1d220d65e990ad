#include "calque/kernels/pack_bits.h"

#include "kernels/bit_stream.h"
#include "kernels/checks.h"
#include "kernels/cpu/kernels.h"

namespace calque {
namespace {

std::uint32_t bits_of(std::int32_t word) { return static_cast<std::uint32_t>(word); }

void check_columns(std::string_view op, MatrixView<const std::uint8_t> codes_KN, int bits,
                   MatrixView<const std::int32_t> words_PN) {
  expect_shape(op, "words_PN", words_PN, packed_words(codes_KN.rows(), bits), codes_KN.cols());
}

void check_rows(std::string_view op, MatrixView<const std::uint8_t> codes_RC, int bits,
                MatrixView<const std::int32_t> words_RP) {
  expect_shape(op, "words_RP", words_RP, codes_RC.rows(), packed_words(codes_RC.cols(), bits));
}

}  // namespace

Index packed_words(Index count, int bits) {
  expect_range("packed_words", "bits", bits, 1, 8);
  return (count * bits + 31) / 32;
}

void pack_columns(MatrixView<const std::uint8_t> codes_KN, int bits,
                  MatrixView<std::int32_t> words_PN) {
  check_columns("pack_columns", codes_KN, bits, words_PN);
  cpu::pack_columns(codes_KN, bits, words_PN);
}

void pack_columns(MatrixView<const std::uint8_t> codes_KN, int bits,
                  MatrixView<std::int32_t> words_PN, const Exec& exec) {
  check_columns("pack_columns", codes_KN, bits, words_PN);
  exec.backend().kernels.pack_columns(codes_KN, bits, words_PN, exec.backend());
}

void unpack_columns(MatrixView<const std::int32_t> words_PN, int bits,
                    MatrixView<std::uint8_t> codes_KN) {
  check_columns("unpack_columns", codes_KN, bits, words_PN);
  const std::uint32_t mask = (1u << bits) - 1;
  for (Index k = 0; k < codes_KN.rows(); ++k) {
    const PlaceInStream place = place_of(k, bits);
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
  check_rows("pack_rows", codes_RC, bits, words_RP);
  cpu::pack_rows(codes_RC, bits, words_RP);
}

void pack_rows(MatrixView<const std::uint8_t> codes_RC, int bits, MatrixView<std::int32_t> words_RP,
               const Exec& exec) {
  check_rows("pack_rows", codes_RC, bits, words_RP);
  exec.backend().kernels.pack_rows(codes_RC, bits, words_RP, exec.backend());
}

void unpack_rows(MatrixView<const std::int32_t> words_RP, int bits,
                 MatrixView<std::uint8_t> codes_RC) {
  check_rows("unpack_rows", codes_RC, bits, words_RP);
  const std::uint32_t mask = (1u << bits) - 1;
  for (Index r = 0; r < codes_RC.rows(); ++r) {
    const std::int32_t* words = words_RP.row(r);
    for (Index c = 0; c < codes_RC.cols(); ++c) {
      const PlaceInStream place = place_of(c, bits);
      std::uint32_t code = bits_of(words[place.word]) >> place.shift;
      if (place.spill > 0) code |= bits_of(words[place.word + 1]) << (bits - place.spill);
      codes_RC(r, c) = static_cast<std::uint8_t>(code & mask);
    }
  }
}

}  // namespace calque
