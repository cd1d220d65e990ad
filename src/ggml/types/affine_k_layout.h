#pragma once

#include <cstddef>
#include <cstdint>

#include "ggml/types/instruction_set.h"

namespace calque::ggml::inline CALQUE_GGML_ISA {

// A super-block with all its fields apart: y = scale_step * scales[j] * code
// - minimum_step * minima[j]. 16 groups of 16 in Q2_K, 8 of 32 in Q4_K and Q5_K.
struct AffineBlock {
  float scale_step = 0;  // binary16 values
  float minimum_step = 0;
  std::uint8_t scales[16] = {};
  std::uint8_t minima[16] = {};
  alignas(64) std::uint8_t codes[256];
};

void store_q2_k(const AffineBlock& block, std::byte* out);
void load_q2_k(const std::byte* bytes, AffineBlock& block);
void store_q4_k(const AffineBlock& block, std::byte* out);
void load_q4_k(const std::byte* bytes, AffineBlock& block);
void store_q5_k(const AffineBlock& block, std::byte* out);
void load_q5_k(const std::byte* bytes, AffineBlock& block);

}  // namespace calque::ggml::inline CALQUE_GGML_ISA
