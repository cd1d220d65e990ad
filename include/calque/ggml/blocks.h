#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "calque/core/matrix.h"
#include "calque/ggml/types.h"

// Rows of blocks, on the calling thread; calque/kernels/ggml.h spreads them over threads.
namespace calque::ggml {

// The reference quantizers of the format, bit for bit: row n of the matrix becomes the
// row_bytes(type, K) bytes at out + n * row_bytes(type, K), for types that are `quantized`.
// `importance_K` weighs the columns (empty: none) in types that heed it. A block whose importance
// is all zero becomes zeros in most types, so callers keep it positive.
void quantize(Type type, MatrixView<const float> weight_NK, std::span<const float> importance_K,
              std::byte* out);

// True if `quantize` weighs columns in this type.
bool heeds_importance(Type type);
// True if llama.cpp's programs refuse to round to this type without importance, but for embedding
// and output: so few bits give a poor model then. `quantize` itself takes equal columns.
bool needs_importance(Type type);

// Computes the values of the rows at `bytes`, for every type that is `supported`.
void dequantize(Type type, const std::byte* bytes, MatrixView<float> weight_NK);

// Rows of a type with a Structure, taken apart.
struct Fields {
  Matrix<std::uint8_t> codes_NK;
  Matrix<std::int8_t> scale_codes_NG;
  Matrix<std::int8_t> minimum_codes_NG;  // zeros without minima, as the next but one
  Matrix<float> steps_NS;                // binary16 values
  Matrix<float> minimum_steps_NS;

  Fields clone() const;
};
Fields empty_fields(const Structure& structure, Index rows, Index columns);

// The bytes of row n to its fields and back: no rounding, whichever way, where the steps are
// finite. scale * levels[code] is exact in fp32, so the value has the bits of dequantize.
void load_fields(Type type, const std::byte* row, Index n, Fields& fields);
void store_fields(Type type, const Fields& fields, Index n, std::byte* row);

// The structure of a type of vectors; null for the others.
const VectorStructure* vectors_of(Type type);

// Rows of such a type, taken apart.
struct VectorFields {
  Matrix<std::uint16_t> codes_NV;  // places in the points
  // By eight columns. Bit j: column j is negative; with `shift` 1: lowered, else raised.
  Matrix<std::uint8_t> signs_NE;
  Matrix<std::uint8_t> scale_codes_NG;
  Matrix<float> steps_NS;  // binary16 values

  VectorFields clone() const;
};
VectorFields empty_vector_fields(const VectorStructure& structure, Index rows, Index columns);

// The bytes of row n to its fields and back: no rounding, whichever way, where the steps are
// finite.
void load_vectors(Type type, const std::byte* row, Index n, VectorFields& fields);
void store_vectors(Type type, const VectorFields& fields, Index n, std::byte* row);

// Bytes of a row of a type that is a grid (Support::kGrid), to the neutral form and back: value =
// scale * code + offset with one scale and offset for each block. The scales, and with a minimum
// the offsets, are binary16 numbers.
void load_grid(Type type, const std::byte* row, Index columns, std::uint8_t* codes_K,
               float* scales_G, float* offsets_G);
void store_grid(Type type, const std::uint8_t* codes_K, const float* scales_G,
                const float* offsets_G, Index columns, std::byte* row);

}  // namespace calque::ggml
