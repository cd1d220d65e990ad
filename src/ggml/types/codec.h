#pragma once

#include <cstddef>

#include "calque/ggml/quantize.h"
#include "ggml/types/instruction_set.h"

namespace calque::ggml {

// One row of weights; `importance` is null or as long as the row.
struct Row {
  const float* values;
  const float* importance;
  Index columns;
};

struct Codec {
  GgmlBlock type;
  Index columns;  // of a block
  std::size_t bytes;
  void (*quantize)(const Row& row, std::byte* out);
  void (*dequantize)(const std::byte* bytes, Index columns, float* values);
};

}  // namespace calque::ggml

namespace calque::ggml::inline CALQUE_GGML_ISA {

// The codec of `type`, null if there is none.
const Codec* find_codec(GgmlBlock type);

// The same, for one family each.
const Codec* find_legacy(GgmlBlock type);
const Codec* find_affine_k(GgmlBlock type);
const Codec* find_symmetric_k(GgmlBlock type);
const Codec* find_codebook(GgmlBlock type);
const Codec* find_tiny_float(GgmlBlock type);

}  // namespace calque::ggml::inline CALQUE_GGML_ISA
