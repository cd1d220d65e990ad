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

// Bytes of a tensor, or nullopt if its row is not whole blocks or a product leaves 63 bits.
std::optional<std::uint64_t> ggml_byte_count(ggml::Type type, std::span<const std::uint64_t> ne);

// One GGUF v2 or v3 file in memory, every count, length, name, shape and offset checked. Throws
// Error(kInput) that names the key or tensor; the caller adds the file.
GgufContents parse_gguf(std::span<const std::byte> file);

}  // namespace calque::io
