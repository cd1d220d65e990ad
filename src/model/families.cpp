#include "model/families/families.h"

#include <fmt/format.h>

#include "calque/core/error.h"

namespace calque::model {

const std::vector<FamilyInfo>& families() {
  static const std::vector<FamilyInfo> registry{
      {"GemmaForCausalLM", "gemma", gemma_family},
      {"Gemma2ForCausalLM", "gemma2", gemma2_family},
      {"Gemma3ForCausalLM", "gemma3", gemma3_family},
      {"LlamaForCausalLM", "llama", llama_family},
      {"MistralForCausalLM", "mistral", mistral_family},
      {"MixtralForCausalLM", "mixtral", mixtral_family},
      {"Phi3ForCausalLM", "phi3", phi3_family},
      {"Qwen2ForCausalLM", "qwen2", qwen2_family},
      {"Qwen2MoeForCausalLM", "qwen2_moe", qwen2_moe_family},
      {"Qwen3ForCausalLM", "qwen3", qwen3_family},
      {"Qwen3MoeForCausalLM", "qwen3_moe", qwen3_moe_family},
  };
  return registry;
}

FamilySpec family_of(const ModelConfig& config) {
  std::string known;
  for (const FamilyInfo& info : families()) {
    if (info.architecture == config.architecture) return info.make(config);
    known += (known.empty() ? "" : ", ") + std::string(info.architecture);
  }
  throw Error(ErrorKind::kInput, "E161",
              fmt::format("architecture '{}' is not supported; supported are {}",
                          config.architecture, known));
}

}  // namespace calque::model
