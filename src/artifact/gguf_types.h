#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "calque/io/gguf.h"
#include "calque/model/family.h"

namespace calque::artifact {

// A type that calque writes, as the job file names it.
struct GgufTypeChoice {
  std::string_view name;
  io::GgmlType type;
  std::uint32_t file_type;  // general.file_type of a file of this type (formats_gguf.md 4.6)
  bool quantized;
};

const std::vector<GgufTypeChoice>& gguf_type_choices();
// Null if calque does not write such a type.
const GgufTypeChoice* find_gguf_type_choice(std::string_view name);
// `name` has been checked.
const GgufTypeChoice& gguf_type_choice(std::string_view name);

std::uint64_t gguf_bytes(io::GgmlType type, const std::vector<Index>& shape);

// GGUF's ne: the shape reversed.
std::vector<std::uint64_t> ne_of(const std::vector<Index>& shape);

// Divisors of the rotary frequencies of a llama3-scaled model, one for each of head_dim / 2 pairs:
// the content of rope_freqs.weight (formats_gguf.md section 5.5).
std::vector<float> llama3_divisors(const model::RopeSpec& rope, Index head_dim);
inline constexpr std::string_view kRopeFreqs = "rope_freqs.weight";

}  // namespace calque::artifact
