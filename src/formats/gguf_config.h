#pragma once

#include <string_view>
#include <vector>

#include "calque/io/gguf.h"
#include "calque/model/config.h"

namespace calque::formats {

// The configuration described by a GGUF file's keys and tensors, for the architectures of all of
// calque's families ("llama" with experts is Mixtral). Error(kInput) names a key that is missing or
// out of bounds.
//
// A file does not keep the llama3 RoPE parameters, only the divisors they lead to. The parameters
// are searched for with the ratios that every Llama 3 has (low 1, high 4); Error(kInput) if none
// reproduces the divisors.
model::ModelConfig gguf_config(const io::GgufFile& file);

// A tensor of head_dim / 2 fp32 divisors of the rotary frequencies, one per pair, for which no key
// exists: llama3's divisors; longrope's factors for sequences beyond the original context and
// within it.
struct RopeTensor {
  std::string_view name;
  std::vector<float> divisors;
};
std::vector<RopeTensor> gguf_rope_tensors(const model::ModelConfig& config);

// The divisors of a llama3-scaled model.
std::vector<float> llama3_divisors(const model::RopeSpec& rope, Index head_dim);

}  // namespace calque::formats
