#pragma once

#include <cstdint>

#include "calque/core/matrix.h"

namespace calque::formats {

// Zero points [G, N] of a packed qzeros [G, packed_words(N)] of GPTQ. v1 adds the 1 back the way
// that GPTQModel subtracted it, over the whole 32-bit word for 2, 4 and 8 bits (a borrow of one
// field then comes back), and per field modulo 2^bits for 3 bits.
Matrix<std::uint8_t> unpack_gptq_zeros(MatrixView<const std::int32_t> qzeros, Index N, int bits,
                                       bool v2);

}  // namespace calque::formats
