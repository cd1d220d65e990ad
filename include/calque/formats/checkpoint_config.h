#pragma once

#include <string>

#include "calque/model/config.h"
#include "calque/model/family.h"
#include "calque/model/weight_source.h"

namespace calque::formats {

// The config.json of a plain checkpoint with tensors of `dtype` ("float16", ...), made from an
// artifact's: only quantization and dtype change. `where` names the file in messages. `own_head`:
// the artifact has an output head of its own, whatever its config.json says.
std::string plain_config_json(const std::string& config_json, const std::string& dtype,
                              const std::string& where, bool own_head = false);

// A config.json made from a GGUF file's metadata. Error(kConfig, "E126") if it cannot say what the
// metadata says: what it says is read back and compared.
std::string generated_config_json(const model::ModelConfig& config, const std::string& dtype);

// The config.json of a folder with the tensors of `source`, whose embedding decides the dtype.
std::string generated_config_json(const model::FamilySpec& family,
                                  const model::ModelSource& source);

}  // namespace calque::formats
