#include "calque/kernels/pack_bits.h"

#include <algorithm>
#include <cassert>

#include "kernels/bit_stream.h"
#include "kernels/cpu/kernels.h"

namespace calque::cpu {
namespace {

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

}  // namespace

void pack_columns(MatrixView<const std::uint8_t> codes_KN, int bits,
                  MatrixView<std::int32_t> words_PN) {
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

void pack_rows(MatrixView<const std::uint8_t> codes_RC, int bits,
               MatrixView<std::int32_t> words_RP) {
  for (Index r = 0; r < codes_RC.rows(); ++r)
    pack_row(codes_RC.row(r), codes_RC.cols(), bits, words_RP.row(r));
}

void pack_columns(MatrixView<const std::uint8_t> codes_KN, int bits,
                  MatrixView<std::int32_t> words_PN, const Exec::Backend& backend) {
  constexpr Index kColumnsATask = 256;
  const Index columns = codes_KN.cols();
  backend.workers.for_each((columns + kColumnsATask - 1) / kColumnsATask, [&](Index task) {
    const Index first = task * kColumnsATask;
    const Index count = std::min(kColumnsATask, columns - first);
    cpu::pack_columns(codes_KN.cols(first, count), bits, words_PN.cols(first, count));
  });
}

void pack_rows(MatrixView<const std::uint8_t> codes_RC, int bits, MatrixView<std::int32_t> words_RP,
               const Exec::Backend& backend) {
  backend.workers.for_each(codes_RC.rows(), [&](Index r) {
    cpu::pack_rows(codes_RC.rows(r, 1), bits, words_RP.rows(r, 1));
  });
}

}  // namespace calque::cpu
