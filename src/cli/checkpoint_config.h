#pragma once

#include <string>

#include "calque/model/config.h"

namespace calque::cli {

// The config.json of a plain checkpoint with tensors of `dtype` ("float16", ...), from that of an
// artifact: everything stays but the quantization and the dtype. `where` for messages.
std::string plain_config_json(const std::string& config_json, const std::string& dtype,
                              const std::string& where);

// A config.json from what a GGUF file says: as much as it takes to load and run the model.
std::string generated_config_json(const model::ModelConfig& config, const std::string& dtype);

}  // namespace calque::cli
