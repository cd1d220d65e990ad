#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "calque/core/dtype.h"
#include "calque/core/matrix.h"

namespace calque::io {

// The file that names the shard of each tensor.
constexpr const char* kSafetensorsIndex = "model.safetensors.index.json";

struct SafetensorsEntry {
  std::string name;
  DType dtype = DType::kF32;
  std::vector<Index> shape;
  std::uint64_t begin = 0;  // offsets from the end of the header
  std::uint64_t end = 0;

  std::string described() const;  // "tensor 'a.weight' (BF16 [14336, 4096])"
};

struct SafetensorsHeader {
  std::vector<SafetensorsEntry> entries;  // by offset
  std::map<std::string, std::string> metadata;
};

std::string text_of(const std::vector<Index>& shape);

// Elements times bytes per element; Error(kInput) naming the tensor if it does not fit in 63 bits.
std::uint64_t checked_byte_count(const SafetensorsEntry& entry);

// Parses and fully checks the JSON header of a file with `data_bytes` bytes after it; see
// SafetensorsFile.
SafetensorsHeader parse_safetensors_header(std::string_view json, std::uint64_t data_bytes);

}  // namespace calque::io
