#pragma once

#include <cstddef>
#include <span>
#include <vector>

#include "calque/io/gguf.h"

namespace calque::io {

struct GgufContents {
  GgufMetadata metadata;
  std::vector<GgufTensor> tensors;  // borrow from the bytes parsed
};

constexpr std::uint64_t kGgufDefaultAlignment = 32;
constexpr std::size_t kGgufMaxNameBytes = 63;  // GGML_MAX_NAME less its terminator
constexpr std::size_t kGgufMaxDimensions = 4;
constexpr std::uint32_t kGgufArrayType = 9;  // id of a value that is a list

// Bytes of a tensor; nullopt if its rows are not whole blocks or a product exceeds 63 bits.
std::optional<std::uint64_t> ggml_byte_count(ggml::Type type, std::span<const std::uint64_t> ne);

// Parses one GGUF v2 or v3 file in memory and checks every count, length, name, shape and offset.
// Error(kInput) names the key or tensor; the caller adds the file.
GgufContents parse_gguf(std::span<const std::byte> file);

}  // namespace calque::io
