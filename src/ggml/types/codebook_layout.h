#pragma once

#include <cstddef>
#include <cstdint>

#include "ggml/types/instruction_set.h"

namespace calque::ggml::inline CALQUE_GGML_ISA {

// What the sixteen codes of IQ4_NL and IQ4_XS stand for.
inline constexpr float kIq4Levels[16] = {-127, -104, -83, -65, -49, -35, -22, -10,
                                         1,    13,   25,  38,  53,  69,  89,  113};

// A block with all its fields apart: y = step * scales[j] * kIq4Levels[code], groups of 32. Eight
// of them in IQ4_XS, with scales of -32..31; a single one without a scale in IQ4_NL.
struct CodebookBlock {
  float step = 0;  // rounded to binary16 when stored
  std::int8_t scales[8] = {};
  alignas(64) std::uint8_t codes[256];
};

void store_iq4_nl(const CodebookBlock& block, std::byte* out);
void load_iq4_nl(const std::byte* bytes, CodebookBlock& block);
void store_iq4_xs(const CodebookBlock& block, std::byte* out);
void load_iq4_xs(const std::byte* bytes, CodebookBlock& block);

}  // namespace calque::ggml::inline CALQUE_GGML_ISA
