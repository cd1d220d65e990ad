#pragma once

#include <cstddef>
#include <cstdint>

#include "ggml/types/instruction_set.h"

namespace calque::ggml::inline CALQUE_GGML_ISA {

// A super-block with all its fields apart: y = step * scales[j] * (code - middle), 16 groups of 16,
// codes from 0. The middle code is 4 in Q3_K and 32 in Q6_K.
struct SymmetricBlock {
  float step = 0;               // a binary16 value
  std::int8_t scales[16] = {};  // -32..31 in Q3_K
  alignas(64) std::uint8_t codes[256];
};

void store_q3_k(const SymmetricBlock& block, std::byte* out);
void load_q3_k(const std::byte* bytes, SymmetricBlock& block);
void store_q6_k(const SymmetricBlock& block, std::byte* out);
void load_q6_k(const std::byte* bytes, SymmetricBlock& block);

}  // namespace calque::ggml::inline CALQUE_GGML_ISA
