#pragma once

#include <cstdint>
#include <span>
#include <string>

#include "calque/io/gguf.h"

namespace calque::formats {

// The first number in rows of `columns` that no runtime can compute with, in words ("block 1 of row
// 0 has scale inf"): a block's scale that is infinite or NaN, or an element of F16, BF16, F32 or
// F64 that is. Empty if there is none. (What llama.cpp's check_tensors refuses.)
std::string ggml_fault(io::GgmlType type, std::span<const std::byte> bytes, std::uint64_t columns);

}  // namespace calque::formats
