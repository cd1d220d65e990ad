#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "calque/ggml/types.h"
#include "calque/model/block.h"
#include "calque/quant/quantized_matrix.h"

// Converts tensors of a GGUF file (types, shapes, rows) from matrices and back.
namespace calque::formats {

// A type that calque writes, by its name, which must be valid.
ggml::Type gguf_written_type(std::string_view name);

// The grid of codes and scales of a type with ggml::Support::kGrid.
quant::Grid neutral_grid(ggml::Type type);

// The grid for rounding a matrix to the type; nullopt: values are only cast. Types that are grids
// are rounded by calque's own rules unless `reference_rounding` (llama.cpp's); the others are
// blocks for their own quantizer only.
std::optional<quant::Grid> gguf_grid(ggml::Type type, bool reference_rounding);

std::uint64_t gguf_bytes(ggml::Type type, const std::vector<Index>& shape);

// GGUF's ne: the shape reversed, without dimensions of 1 in its middle (a convolution's).
std::vector<std::uint64_t> ne_of(const std::vector<Index>& shape);

// Order of a file's rows: file row r holds matrix row `order[r]`; empty: row r.
using RowOrder = std::span<const Index>;

// Row order of GGUF's architecture "llama" for a matrix of `heads` heads: its rotation takes
// adjacent rows, Hugging Face's takes halves. Empty for heads = 0.
std::vector<Index> interleaved_rows(Index rows, Index heads);

// Order of the rows (a vector's elements) and columns of a tensor in a file; empty: its own.
std::vector<Index> row_order_of(const model::TensorSpec& tensor);
std::vector<Index> column_order_of(const model::TensorSpec& tensor);

// Bytes of the whole matrix, which lies on neutral_grid(type). No rounding: Error(kInternal) if a
// scale or minimum is not a binary16 number.
std::vector<std::byte> pack_rows(ggml::Type type, const quant::QuantizedMatrix& q, RowOrder order);

// `bytes` must hold `rows` rows of `cols` elements (the container checks this).
quant::QuantizedMatrix unpack_rows(ggml::Type type, std::span<const std::byte> bytes, Index rows,
                                   Index cols, RowOrder order);

// fp32 values of any type that calque reads; Error(kInput) for other types.
Matrix<float> decode_rows(ggml::Type type, std::span<const std::byte> bytes, Index rows, Index cols,
                          RowOrder order);

}  // namespace calque::formats
