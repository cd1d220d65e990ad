#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "formats/packed_layout.h"
#include "calque/quant/quantized_matrix.h"

namespace calque::formats {

// The four tensors that a GPTQ folder keeps for one linear (formats_gptq_awq.md section 1.1).
// Zero points are stored as z - 1 in v1 ("gptq") and as z in "gptq_v2"; nothing else differs.
struct GptqTensors {
  Matrix<std::int32_t> qweight;  // [packed_words(K), N], along K
  Matrix<std::int32_t> qzeros;   // [G, packed_words(N)], along N
  Matrix<Half> scales;           // [G, N]
  std::vector<std::int32_t> g_idx;
};

// "gptq" or "gptq_v2": what "auto" means for this kind of grid.
std::string gptq_checkpoint_format(bool sym, const std::string& requested);

// Packs without rounding. Error(kInternal) if a scale is no binary16 number or, for v1, if a zero
// point is 0: planning has to prevent both.
GptqTensors pack_gptq(const quant::QuantizedMatrix& q, bool v2,
                      const Exec& exec = open_exec("cpu"));

// Zero points of a packed qzeros, one a group and output: v1 adds the 1 back the way that
// GPTQModel subtracted it, over the whole 32-bit word for 2, 4 and 8 bits (a borrow of one field
// then comes back), and per field modulo 2^bits for 3 bits (formats_gptq_awq.md section 1.3).
Matrix<std::uint8_t> unpack_gptq_zeros(MatrixView<const std::int32_t> qzeros, Index N, int bits,
                                       bool v2);

}  // namespace calque::formats
