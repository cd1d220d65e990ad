#pragma once

#include <cstddef>
#include <filesystem>
#include <fstream>
#include <span>
#include <string>
#include <vector>

#include "calque/core/dtype.h"
#include "calque/io/gguf.h"
#include "calque/io/safetensors.h"

// Writers refuse numbers that are not finite, so a damaged file is made from a finished good one.
namespace calque::test {

inline void overwrite_bytes(const std::filesystem::path& file, std::size_t offset,
                            std::span<const std::byte> bytes) {
  std::fstream stream(file, std::ios::in | std::ios::out | std::ios::binary);
  stream.seekp(static_cast<std::streamoff>(offset));
  stream.write(reinterpret_cast<const char*>(bytes.data()),
               static_cast<std::streamsize>(bytes.size()));
}

// Replaces element `at` of a tensor in a safetensors file.
inline void overwrite_element(const std::filesystem::path& path, const std::string& tensor,
                              std::size_t at, float value) {
  std::size_t offset = 0;
  std::byte element[8];
  std::size_t size = 0;
  {
    const io::SafetensorsFile file(path);
    const io::TensorRef& found = *file.find(tensor);
    size = size_of(found.dtype);
    convert_from_float(&value, found.dtype, 1, element);
    offset = static_cast<std::size_t>(found.bytes.data() - found.file->bytes().data()) + at * size;
  }
  overwrite_bytes(path, offset, std::span(element, size));
}

// Replaces bytes of a tensor in a GGUF file of one shard.
inline void overwrite_gguf(const std::filesystem::path& path, const std::string& tensor,
                           std::size_t at, std::span<const std::byte> bytes) {
  std::size_t offset = 0;
  {
    const io::GgufFile file(path);
    const io::GgufTensor& found = *file.find_tensor(tensor);
    offset = static_cast<std::size_t>(found.bytes.data() - found.file->bytes().data()) + at;
  }
  overwrite_bytes(path, offset, bytes);
}

}  // namespace calque::test
