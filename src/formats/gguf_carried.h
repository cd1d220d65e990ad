#pragma once

#include <string>

#include "calque/io/gguf.h"

namespace calque::formats {

// Keys of a GGUF file that one made from its weights keeps: what general.* says of the model
// (name, licence, origin, ...), but nothing of the file, of its quantization or of local folders.
io::GgufMetadata carried_general(const io::GgufMetadata& source);

// All of tokenizer.*; `pre`, if not empty, in place of its tokenizer.ggml.pre.
io::GgufMetadata carried_tokenizer(const io::GgufMetadata& source, const std::string& pre);

}  // namespace calque::formats
