#pragma once

#include <cstdint>

#include "calque/core/matrix.h"

namespace calque::formats {

// Unpacks zero points [G, N] from GPTQ's qzeros [G, packed_words(N)]. For v1, adds 1 the way
// GPTQModel subtracted it: over the whole 32-bit word for 2, 4 and 8 bits (which undoes a borrow
// between fields), and per field modulo 2^bits for 3 bits.
Matrix<std::uint8_t> unpack_gptq_zeros(MatrixView<const std::int32_t> qzeros, Index N, int bits,
                                       bool v2);

}  // namespace calque::formats
