#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "calque/io/gguf.h"

namespace calque::io {

// Part of a file: consecutive tensors, and its own keys.
struct GgufShard {
  std::size_t first_tensor = 0;
  std::size_t tensors = 0;
  GgufMetadata metadata;
};

// One, with `metadata` as it is, if everything fits into `max_bytes` or that is 0.
std::vector<GgufShard> gguf_shards(const GgufMetadata& metadata,
                                   std::span<const GgufTensorDeclaration> tensors,
                                   std::uint64_t max_bytes);

// `size` up to the next multiple of the alignment that is written.
std::uint64_t gguf_padded(std::uint64_t size);

// Bytes of a file's head before its padding, as far as these keys and tensors go.
std::uint64_t gguf_head_bytes(const GgufMetadata& metadata);
std::uint64_t gguf_record_bytes(const GgufTensorDeclaration& tensor);

}  // namespace calque::io
