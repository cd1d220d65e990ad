#pragma once

#include <cstddef>

#include "calque/kernels/ggml_quantize.h"

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

// The codec of `type` if it belongs to the family, else null.
const Codec* find_legacy(GgmlBlock type);
const Codec* find_affine_k(GgmlBlock type);
const Codec* find_symmetric_k(GgmlBlock type);
const Codec* find_codebook(GgmlBlock type);
const Codec* find_tiny_float(GgmlBlock type);

}  // namespace calque::ggml
