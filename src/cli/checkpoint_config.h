#pragma once

#include <string>

#include "calque/model/config.h"

namespace calque::cli {

// The config.json of a plain checkpoint with tensors of `dtype` ("float16", ...), made from an
// artifact's: only quantization and dtype change. `where` names the file in messages. `own_head`:
// the artifact has an output head of its own, whatever its config.json says.
std::string plain_config_json(const std::string& config_json, const std::string& dtype,
                              const std::string& where, bool own_head = false);

// A config.json made from a GGUF file's metadata: enough to load and run the model.
std::string generated_config_json(const model::ModelConfig& config, const std::string& dtype);

}  // namespace calque::cli
