#pragma once

#include "formats/gguf_key_reader.h"
#include "calque/model/config.h"

// The parts of a GGUF file's configuration by subject; each reads its keys into `config`, whose
// sizes are known.
namespace calque::formats {

void read_gguf_rope(const std::string& arch, const GgufKeyReader& keys, model::ModelConfig& config);
void read_gguf_gemma(const std::string& arch, const GgufKeyReader& keys,
                     model::ModelConfig& config);
void read_gguf_windows(const std::string& arch, const GgufKeyReader& keys,
                       model::ModelConfig& config);
void read_gguf_experts(const std::string& arch, const GgufKeyReader& keys,
                       model::ModelConfig& config);

}  // namespace calque::formats
