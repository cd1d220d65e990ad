#pragma once

#include "calque/model/family.h"

// One function a file in this folder; each has its row in src/model/families.cpp.
namespace calque::model {

FamilySpec llama_family(const ModelConfig& config);
FamilySpec mistral_family(const ModelConfig& config);
FamilySpec qwen2_family(const ModelConfig& config);
FamilySpec qwen3_family(const ModelConfig& config);

}  // namespace calque::model
