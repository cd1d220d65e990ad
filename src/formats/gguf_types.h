#pragma once

#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

#include "calque/io/gguf.h"
#include "calque/model/family.h"
#include "calque/quant/grid.h"

namespace calque::formats {

// Types of tensors that calque writes.
const std::vector<io::GgmlType>& gguf_written_types();
// Null if calque does not write such a type.
const io::GgmlTypeInfo* find_gguf_written_type(std::string_view name);
// `name` has been checked.
io::GgmlType gguf_written_type(std::string_view name);

// What the matrix is rounded onto; nullopt: it is cast. The older types store a grid of codes and
// scales, that calque rounds to by its own rules unless `reference_rounding` (llama.cpp's); the
// others are blocks for one quantizer only.
std::optional<quant::Grid> gguf_grid(io::GgmlType type, bool reference_rounding);

std::uint64_t gguf_bytes(io::GgmlType type, const std::vector<Index>& shape);

// GGUF's ne: the shape reversed.
std::vector<std::uint64_t> ne_of(const std::vector<Index>& shape);

// Divisors of the rotary frequencies of a llama3-scaled model, one for each of head_dim / 2 pairs:
// the content of rope_freqs.weight (formats_gguf.md section 5.5).
std::vector<float> llama3_divisors(const model::RopeSpec& rope, Index head_dim);
inline constexpr std::string_view kRopeFreqs = "rope_freqs.weight";
// The same of a longrope model, for sequences beyond the original context and within it.
inline constexpr std::string_view kRopeFactorsLong = "rope_factors_long.weight";
inline constexpr std::string_view kRopeFactorsShort = "rope_factors_short.weight";

}  // namespace calque::formats
