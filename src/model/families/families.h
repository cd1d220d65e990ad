#pragma once

#include "calque/model/family.h"

// One file in this folder per group of related families. Each function has its row in
// src/model/families.cpp.
namespace calque::model {

FamilySpec ernie4_5_moe_family(const ModelConfig& config);
FamilySpec exaone4_family(const ModelConfig& config);
FamilySpec gemma_family(const ModelConfig& config);
FamilySpec gemma2_family(const ModelConfig& config);
FamilySpec gemma3_family(const ModelConfig& config);
FamilySpec gemma4_family(const ModelConfig& config);
FamilySpec glm4_moe_family(const ModelConfig& config);
FamilySpec gpt_oss_family(const ModelConfig& config);
FamilySpec hy_v3_family(const ModelConfig& config);
FamilySpec llama_family(const ModelConfig& config);
FamilySpec minimax_m2_family(const ModelConfig& config);
FamilySpec ministral3_family(const ModelConfig& config);
FamilySpec mistral_family(const ModelConfig& config);
FamilySpec mixtral_family(const ModelConfig& config);
FamilySpec olmo3_family(const ModelConfig& config);
FamilySpec phi3_family(const ModelConfig& config);
FamilySpec qwen2_family(const ModelConfig& config);
FamilySpec qwen2_moe_family(const ModelConfig& config);
FamilySpec qwen2_vl_family(const ModelConfig& config);
FamilySpec qwen3_family(const ModelConfig& config);
FamilySpec qwen3_moe_family(const ModelConfig& config);
FamilySpec qwen3_vl_family(const ModelConfig& config);
FamilySpec qwen3_vl_moe_family(const ModelConfig& config);
FamilySpec qwen3_next_family(const ModelConfig& config);
FamilySpec qwen3_5_family(const ModelConfig& config);
FamilySpec qwen3_5_moe_family(const ModelConfig& config);
FamilySpec seed_oss_family(const ModelConfig& config);
FamilySpec smollm3_family(const ModelConfig& config);

}  // namespace calque::model
