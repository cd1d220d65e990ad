#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "calque/ggml/types.h"
#include "calque/quant/quantized_matrix.h"

// The tensors of a GGUF file: their types, shapes and rows, from matrices and back.
namespace calque::formats {

// A type that calque writes, by its name, which has been checked.
ggml::Type gguf_written_type(std::string_view name);

// The grid of codes and scales that a type of ggml::Support::kGrid stores.
quant::Grid neutral_grid(ggml::Type type);

// What a matrix of the type is rounded onto; nullopt: it is cast. Types that are grids are rounded
// by calque's own rules unless `reference_rounding` (llama.cpp's); the others are blocks for one
// quantizer only.
std::optional<quant::Grid> gguf_grid(ggml::Type type, bool reference_rounding);

std::uint64_t gguf_bytes(ggml::Type type, const std::vector<Index>& shape);

// GGUF's ne: the shape reversed.
std::vector<std::uint64_t> ne_of(const std::vector<Index>& shape);

// Rows of the file in order of the file: file row r holds matrix row `order[r]`; empty: r.
using RowOrder = std::span<const Index>;

// The rows that GGUF's architecture "llama" stores for a matrix of `heads` heads, whose rotation
// takes adjacent rows where Hugging Face takes halves: empty for heads = 0.
std::vector<Index> interleaved_rows(Index rows, Index heads);

// Bytes of the whole matrix, which is on neutral_grid(type). No rounding: Error(kInternal) if a
// scale or minimum is no binary16 number.
std::vector<std::byte> pack_rows(ggml::Type type, const quant::QuantizedMatrix& q, RowOrder order);

// `bytes` holds `rows` rows of `cols` elements (checked by the container).
quant::QuantizedMatrix unpack_rows(ggml::Type type, std::span<const std::byte> bytes, Index rows,
                                   Index cols, RowOrder order);

// fp32 values of any type that calque reads; Error(kInput) for another one.
Matrix<float> decode_rows(ggml::Type type, std::span<const std::byte> bytes, Index rows, Index cols,
                          RowOrder order);

}  // namespace calque::formats
