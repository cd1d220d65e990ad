#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "calque/ggml/types.h"
#include "ggml/type_table.h"

// The code of this folder is compiled once for each instruction set (CMakeLists.txt), each copy in
// an inline namespace of that set's name (calque/core/simd.h). So that no function of one set
// stands in for another's, these copies call no function templates of the standard library, only
// builtins and their own; tests/ggml/check_isolated_symbols.py looks at the object files. Code that
// is compiled once sees the baseline's.
#ifndef CALQUE_ISA
#define CALQUE_ISA baseline
#endif

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

// What is known of a type's bytes. `load` and `store` do no rounding but that of steps to binary16;
// they are null for types that are neither grids nor have scale codes.
// Some loads are noinline: g++ 12 mixes them with the loops of dequantize otherwise, and values take
// a quarter longer (measured on Q2_K and IQ4_NL with AVX-512).
struct Codec {
  Type type;
  void (*quantize)(const Row& row, std::byte* out);
  void (*dequantize)(const std::byte* bytes, Index columns, float* values);
  void (*load)(const std::byte* bytes, Block& block) = nullptr;
  void (*store)(const Block& block, std::byte* out) = nullptr;
};

// The codecs compiled for one instruction set. The bytes are the same in all.
struct Copy {
  std::string_view instruction_set;
  const Codec* (*find_codec)(Type type);
};

// The copies in this build that this processor can run, the widest registers last.
std::span<const Copy> runnable_copies();

}  // namespace calque::ggml

namespace calque::ggml::inline CALQUE_ISA {

// The codec of `type`, null if there is none.
const Codec* find_codec(Type type);

// The same, for one family each.
const Codec* find_legacy(Type type);
const Codec* find_affine_k(Type type);
const Codec* find_symmetric_k(Type type);
const Codec* find_codebook(Type type);
const Codec* find_tiny_float(Type type);

}  // namespace calque::ggml::inline CALQUE_ISA
