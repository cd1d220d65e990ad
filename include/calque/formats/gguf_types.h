#pragma once

#include <string_view>
#include <vector>

namespace calque::formats {

// Values of the job file's export.type: one type, or one of llama.cpp's mixes of types.
struct GgufType {
  std::string_view name;  // "Q4_K_M"
  int bits = 0;           // whole bits per weight of most tensors; 16 and 32: not rounded
};
std::vector<GgufType> gguf_types();

}  // namespace calque::formats
