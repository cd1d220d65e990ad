#pragma once

#include "ggml/types/codec.h"

namespace calque::ggml::inline CALQUE_GGML_ISA {

void quantize_q8_0(const Row& row, std::byte* out);
void dequantize_q8_0(const std::byte* bytes, Index columns, float* values);

}  // namespace calque::ggml::inline CALQUE_GGML_ISA
