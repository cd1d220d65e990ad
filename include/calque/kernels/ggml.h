#pragma once

#include <cstddef>
#include <span>

#include "calque/core/exec.h"
#include "calque/core/matrix.h"
#include "calque/ggml/blocks.h"

// The operations of calque/ggml/blocks.h on the threads of an Exec. Lengths that do not fit are
// Error(kInternal).
namespace calque {

// ggml::quantize into the rows.size() * row_bytes bytes at `out`.
void ggml_quantize(ggml::Type type, MatrixView<const float> weight_NK,
                   std::span<const float> importance_K, std::span<std::byte> out, const Exec& exec);

// Computes the values that the bytes of `weight_NK.rows()` rows stand for.
void ggml_dequantize(ggml::Type type, std::span<const std::byte> bytes, MatrixView<float> weight_NK,
                     const Exec& exec);

// The bytes of whole rows of a type with a structure, taken apart and put together again.
ggml::Fields ggml_fields(ggml::Type type, std::span<const std::byte> bytes, Index rows,
                         Index columns, const Exec& exec);
void store_ggml_fields(ggml::Type type, const ggml::Fields& fields, std::span<std::byte> out,
                       const Exec& exec);
// The same of a type of vectors.
ggml::VectorFields ggml_vectors(ggml::Type type, std::span<const std::byte> bytes, Index rows,
                                Index columns, const Exec& exec);
void store_ggml_vectors(ggml::Type type, const ggml::VectorFields& fields, std::span<std::byte> out,
                        const Exec& exec);

}  // namespace calque
