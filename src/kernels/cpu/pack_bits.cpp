// Packing and unpacking on the host.
#include "calque/kernels/pack_bits.h"

#include <algorithm>
#include <cassert>

#include "kernels/bit_stream.h"
#include "kernels/checks.h"
#include "kernels/kernel_table.h"

namespace calque {
namespace {

std::uint32_t bits_of(std::int32_t word) { return static_cast<std::uint32_t>(word); }

void set_bits(std::int32_t& word, std::uint32_t bits) {
  word = static_cast<std::int32_t>(static_cast<std::uint32_t>(word) | bits);
}

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
  clear(words_PN);
  for (Index k = 0; k < codes_KN.rows(); ++k) {
    const PlaceInStream place = place_of(k, bits);
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
  for (Index r = 0; r < codes_RC.rows(); ++r)
    pack_row(codes_RC.row(r), codes_RC.cols(), bits, words_RP.row(r));
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

namespace cpu {

void pack_bits(const PackBits& task, const Exec::Backend& backend) {
  if (task.vectors == PackedVectors::kRows)
    return backend.workers.for_each(task.codes.rows(), [&](Index r) {
      pack_rows(task.codes.rows(r, 1), task.bits, task.words.rows(r, 1));
    });
  constexpr Index kColumnsATask = 256;
  const Index columns = task.codes.cols();
  backend.workers.for_each((columns + kColumnsATask - 1) / kColumnsATask, [&](Index part) {
    const Index first = part * kColumnsATask;
    const Index count = std::min(kColumnsATask, columns - first);
    pack_columns(task.codes.cols(first, count), task.bits, task.words.cols(first, count));
  });
}

}  // namespace cpu
}  // namespace calque
