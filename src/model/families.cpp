#include "model/families/families.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "calque/core/error.h"

namespace calque::model {

const std::vector<FamilyInfo>& families() {
  static const std::vector<FamilyInfo> registry{
      {"GemmaForCausalLM", "gemma", "gemma", gemma_family},
      {"Gemma2ForCausalLM", "gemma2", "gemma2", gemma2_family},
      {"Gemma3ForCausalLM", "gemma3", "gemma3_text", gemma3_family},
      {"LlamaForCausalLM", "llama", "llama", llama_family},
      {"Ministral3ForCausalLM", "ministral3", "ministral3", ministral3_family},
      {"MistralForCausalLM", "mistral", "mistral", mistral_family},
      {"MixtralForCausalLM", "mixtral", "mixtral", mixtral_family},
      {"Phi3ForCausalLM", "phi3", "phi3", phi3_family},
      {"Qwen2ForCausalLM", "qwen2", "qwen2", qwen2_family},
      {"Qwen2MoeForCausalLM", "qwen2_moe", "qwen2_moe", qwen2_moe_family},
      {"Qwen3ForCausalLM", "qwen3", "qwen3", qwen3_family},
      {"Qwen3MoeForCausalLM", "qwen3_moe", "qwen3_moe", qwen3_moe_family},
      {"SeedOssForCausalLM", "seed_oss", "seed_oss", seed_oss_family},
      {"SmolLM3ForCausalLM", "smollm3", "smollm3", smollm3_family},
  };
  return registry;
}

NormSpec norm_of(const ModelConfig& config) {
  return {.kind = config.norm_plus_one ? NormSpec::Kind::kOnePlusWeight : NormSpec::Kind::kWeight,
          .epsilon = config.rms_norm_eps};
}

const FamilyInfo* find_family(std::string_view architecture) {
  for (const FamilyInfo& info : families())
    if (info.architecture == architecture) return &info;
  return nullptr;
}

void refuse_architecture(const std::string& architecture, const std::string& more) {
  std::vector<std::string_view> known;
  for (const FamilyInfo& info : families()) known.push_back(info.architecture);
  throw Error(ErrorKind::kInput, "E161",
              fmt::format("architecture '{}' is not supported{}; supported are {}", architecture,
                          more, fmt::join(known, ", ")));
}

FamilySpec family_of(const ModelConfig& config) {
  if (const FamilyInfo* info = find_family(config.architecture)) return info->make(config);
  refuse_architecture(config.architecture, "");
}

std::vector<TensorSpec> FamilySpec::tensors() const {
  std::vector<TensorSpec> result{embedding};
  for (const BlockSpec& block : blocks) {
    const std::vector<TensorSpec> inner = block.tensors();
    result.insert(result.end(), inner.begin(), inner.end());
  }
  result.push_back(final_norm);
  result.insert(result.end(), lm_head.begin(), lm_head.end());
  return result;
}

std::vector<LinearSpec> FamilySpec::linears() const {
  std::vector<LinearSpec> result;
  for (const BlockSpec& block : blocks)
    for (const SiteSpec& site : block.sites)
      result.insert(result.end(), site.readers.begin(), site.readers.end());
  return result;
}

std::optional<BlockSpec> FamilySpec::head_block() const {
  if (lm_head.empty()) return std::nullopt;
  BlockSpec block{.layer = static_cast<Index>(blocks.size()), .name = "lm_head"};
  block.sites = {{.name = "head_in", .channels = head().shape[1], .from_norm = true}};
  block.sites[0].readers = {{.name = "lm_head", .role = "lm_head", .weight = head()}};
  return block;
}

bool FamilySpec::ignores(std::string_view tensor_name) const {
  if (tensor_name.ends_with("rotary_emb.inv_freq")) return true;
  return lm_head.empty() && tensor_name == "lm_head.weight";
}

}  // namespace calque::model
