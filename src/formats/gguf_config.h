#pragma once

#include "calque/io/gguf.h"
#include "calque/model/config.h"

namespace calque::formats {

// The configuration that a GGUF file's keys and tensors describe, for the architectures of all of
// calque's families ("llama" with experts is Mixtral). Error(kInput) naming the key that is missing
// or out of bounds.
//
// A file does not keep the llama3 RoPE parameters, only the divisors they led to: those are
// searched for under the ratios that every Llama 3 has (low 1, high 4), and Error(kInput) if none
// reproduces the divisors.
model::ModelConfig gguf_config(const io::GgufFile& file);

}  // namespace calque::formats
