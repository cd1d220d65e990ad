#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "calque/core/copies.h"
#include "calque/ggml/types.h"
#include "ggml/type_table.h"

// The code of this folder is compiled once for every machine and once for AVX-512 (CMakeLists.txt),
// each time in an inline namespace of its own (calque/core/simd.h).
namespace calque::ggml {

// One row of weights; `importance` is null or as long as the row.
struct Row {
  const float* values;
  const float* importance;
  Index columns;
};

// A block with all its fields apart. With scale codes it stands for
//   step * scales[j] * levels[code] - minimum_step * minima[j],
// j counting its groups; a grid of Q4_0 to Q8_0 for step * (code - middle) or, with a minimum,
// step * code + minimum_step. Nothing is set that a type has no place for.
struct Block {
  float step;  // binary16 values
  float minimum_step;
  std::int8_t scales[16];
  std::int8_t minima[16];
  alignas(64) std::uint8_t codes[256];
};

// A super-block of vectors with all its fields apart (VectorStructure).
struct VectorBlock {
  float step;                // a binary16 value
  std::uint8_t scales[16];   // by group
  std::uint16_t points[64];  // by vector, places in the grid
  // By eight columns. IQ2, IQ3: bit j is set where column j is negative. IQ1: 1 where all are
  // lowered by kShift, else they are raised.
  std::uint8_t signs[32];
};

// Functions that know a type's bytes. `load` and `store` round nothing but steps, to binary16; they
// are null for types that are neither grids nor have scale codes.
// Some loads are noinline: g++ 12 mixes them with the loops of dequantize otherwise, and values
// take a quarter longer (measured on Q2_K and IQ4_NL with AVX-512).
struct Codec {
  Type type;
  void (*quantize)(const Row& row, std::byte* out);
  void (*dequantize)(const std::byte* bytes, Index columns, float* values);
  void (*load)(const std::byte* bytes, Block& block) = nullptr;
  void (*store)(const Block& block, std::byte* out) = nullptr;
  // For types of vectors.
  const VectorStructure* vectors = nullptr;
  void (*load_vectors)(const std::byte* bytes, VectorBlock& block) = nullptr;
  void (*store_vectors)(const VectorBlock& block, std::byte* out) = nullptr;
};

// The codecs compiled for one instruction set.
struct Copy {
  std::string_view instruction_set;
  const Codec* (*find_codec)(Type type);
};

// The copies in this build that this processor can run, the widest registers last. The bytes do not
// depend on which is used.
std::span<const Copy> runnable_copies();

// The codec of `type`, null if there is none.
CALQUE_COPIES(const Codec* find_codec(Type type);)

}  // namespace calque::ggml

namespace calque::ggml::inline CALQUE_ISA {

// The same, for one family each.
const Codec* find_legacy(Type type);
const Codec* find_affine_k(Type type);
const Codec* find_symmetric_k(Type type);
const Codec* find_codebook(Type type);
const Codec* find_tiny_float(Type type);
const Codec* find_vectors(Type type);

}  // namespace calque::ggml::inline CALQUE_ISA
