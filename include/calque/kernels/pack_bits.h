#pragma once

#include <cstdint>

#include "calque/core/exec.h"
#include "calque/core/matrix.h"

namespace calque {

// The bit-stream rule: code i of a vector occupies bits
// [bits * i, bits * (i + 1)) of a stream whose bit t is bit t % 32 of word t / 32.
// 1 <= bits <= 8; every code must be below 2^bits.

// 32-bit words that `count` codes need: ceil(count * bits / 32).
Index packed_words(Index count, int bits);

// Each column of codes_KN is one vector: words_PN has packed_words(K, bits) rows and N columns.
// (GPTQ qweight.)
void pack_columns(MatrixView<const std::uint8_t> codes_KN, int bits,
                  MatrixView<std::int32_t> words_PN);
void unpack_columns(MatrixView<const std::int32_t> words_PN, int bits,
                    MatrixView<std::uint8_t> codes_KN);

// Each row of codes_RC is one vector: words_RP has packed_words(C, bits) columns.
// (GPTQ qzeros, compressed-tensors weight_packed.)
void pack_rows(MatrixView<const std::uint8_t> codes_RC, int bits,
               MatrixView<std::int32_t> words_RP);
void unpack_rows(MatrixView<const std::int32_t> words_RP, int bits,
                 MatrixView<std::uint8_t> codes_RC);

// The same on a device.
void pack_columns(MatrixView<const std::uint8_t> codes_KN, int bits,
                  MatrixView<std::int32_t> words_PN, const Exec& exec);
void pack_rows(MatrixView<const std::uint8_t> codes_RC, int bits, MatrixView<std::int32_t> words_RP,
               const Exec& exec);

}  // namespace calque
