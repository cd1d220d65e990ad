#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "io/io_test_support.h"

namespace calque::testing {

// Pieces of a GGUF file, put together by hand from the layout of the format:
//   "GGUF" | u32 version | u64 tensors | u64 keys | keys | tensors | padding | data
inline std::string u32(std::uint32_t value) { return raw(value); }
inline std::string u64(std::uint64_t value) { return raw(value); }
inline std::string gguf_string(const std::string& text) { return u64(text.size()) + text; }

inline std::string gguf_header(std::uint64_t tensors, std::uint64_t keys,
                               std::uint32_t version = 3) {
  return "GGUF" + u32(version) + u64(tensors) + u64(keys);
}

// `value` with its type id in front.
inline std::string gguf_key(const std::string& name, std::uint32_t type, const std::string& value) {
  return gguf_string(name) + u32(type) + value;
}

inline std::string gguf_tensor(const std::string& name, const std::vector<std::uint64_t>& ne,
                               std::uint32_t type, std::uint64_t offset) {
  std::string bytes = gguf_string(name) + u32(static_cast<std::uint32_t>(ne.size()));
  for (const std::uint64_t size : ne) bytes += u64(size);
  return bytes + u32(type) + u64(offset);
}

inline std::string padded(std::string bytes, std::size_t alignment = 32) {
  bytes.resize((bytes.size() + alignment - 1) / alignment * alignment, '\0');
  return bytes;
}

// A file of the given keys and tensors with `data` zero bytes of data.
inline std::string gguf(const std::vector<std::string>& keys,
                        const std::vector<std::string>& tensors, std::size_t data = 0) {
  std::string bytes = gguf_header(tensors.size(), keys.size());
  for (const std::string& key : keys) bytes += key;
  for (const std::string& tensor : tensors) bytes += tensor;
  return padded(bytes) + std::string(data, '\0');
}

}  // namespace calque::testing
