#include "model/families/families.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

#include "calque/core/error.h"
#include "calque/core/names.h"

namespace calque::model {

namespace {

constexpr WrapperInfo kWrappers[] = {
    {"Gemma3ForConditionalGeneration", "gemma3", "gemma3_text", true},
    {"Gemma4ForConditionalGeneration", "gemma4", "gemma4_text", true},
    {"Gemma4UnifiedForConditionalGeneration", "gemma4_unified", "gemma4_unified_text", true},
    {"Mistral3ForConditionalGeneration", "mistral3", "mistral", true},
    {"Qwen2VLForConditionalGeneration", "qwen2_vl", "qwen2_vl_text"},
    {"Qwen2_5_VLForConditionalGeneration", "qwen2_5_vl", "qwen2_5_vl_text"},
    {"Qwen3_5ForConditionalGeneration", "qwen3_5", "qwen3_5_text"},
    {"Qwen3_5MoeForConditionalGeneration", "qwen3_5_moe", "qwen3_5_moe_text"},
    {"Qwen3VLForConditionalGeneration", "qwen3_vl", "qwen3_vl_text"},
    {"Qwen3VLMoeForConditionalGeneration", "qwen3_vl_moe", "qwen3_vl_moe_text"},
};

}  // namespace

const std::vector<FamilyInfo>& families() {
  static const std::vector<FamilyInfo> registry{
      {"Ernie4_5_MoeForCausalLM", "ernie4_5_moe", "ernie4_5_moe", ernie4_5_moe_family},
      {"Exaone4ForCausalLM", "exaone4", "exaone4", exaone4_family},
      {"GemmaForCausalLM", "gemma", "gemma", gemma_family},
      {"Gemma2ForCausalLM", "gemma2", "gemma2", gemma2_family},
      {"Gemma3ForCausalLM", "gemma3", "gemma3_text", gemma3_family},
      {"Gemma4ForCausalLM", "gemma4", "gemma4_text", gemma4_family},
      {"Gemma4UnifiedTextModel", "gemma4_unified", "gemma4_unified_text", gemma4_family},
      {"Glm4MoeForCausalLM", "glm4_moe", "glm4_moe", glm4_moe_family},
      {"GptOssForCausalLM", "gpt_oss", "gpt_oss", gpt_oss_family},
      {"HYV3ForCausalLM", "hy_v3", "hy_v3", hy_v3_family},
      {"LlamaForCausalLM", "llama", "llama", llama_family},
      {"MiniMaxM2ForCausalLM", "minimax_m2", "minimax_m2", minimax_m2_family},
      {"Ministral3ForCausalLM", "ministral3", "ministral3", ministral3_family},
      {"MistralForCausalLM", "mistral", "mistral", mistral_family},
      {"MixtralForCausalLM", "mixtral", "mixtral", mixtral_family},
      {"Olmo3ForCausalLM", "olmo3", "olmo3", olmo3_family},
      {"Phi3ForCausalLM", "phi3", "phi3", phi3_family},
      {"Qwen2ForCausalLM", "qwen2", "qwen2", qwen2_family},
      {"Qwen2MoeForCausalLM", "qwen2_moe", "qwen2_moe", qwen2_moe_family},
      {"Qwen2VLTextModel", "qwen2_vl", "qwen2_vl_text", qwen2_vl_family},
      {"Qwen2_5_VLTextModel", "qwen2_5_vl", "qwen2_5_vl_text", qwen2_vl_family},
      {"Qwen3ForCausalLM", "qwen3", "qwen3", qwen3_family},
      {"Qwen3MoeForCausalLM", "qwen3_moe", "qwen3_moe", qwen3_moe_family},
      {"Qwen3VLMoeTextModel", "qwen3_vl_moe", "qwen3_vl_moe_text", qwen3_vl_moe_family},
      {"Qwen3VLTextModel", "qwen3_vl", "qwen3_vl_text", qwen3_vl_family},
      {"Qwen3NextForCausalLM", "qwen3_next", "qwen3_next", qwen3_next_family},
      {"Qwen3_5ForCausalLM", "qwen3_5", "qwen3_5_text", qwen3_5_family},
      {"Qwen3_5MoeForCausalLM", "qwen3_5_moe", "qwen3_5_moe_text", qwen3_5_moe_family},
      {"SeedOssForCausalLM", "seed_oss", "seed_oss", seed_oss_family},
      {"SmolLM3ForCausalLM", "smollm3", "smollm3", smollm3_family},
  };
  return registry;
}

std::string part_of(std::string_view tensor_name) {
  for (const std::string_view outer : {"model.", "language_model.", "model."})
    if (tensor_name.starts_with(outer)) tensor_name.remove_prefix(outer.size());
  std::size_t end = tensor_name.find('.');
  if (tensor_name.starts_with("layers.")) end = tensor_name.find('.', end + 1);
  return std::string(tensor_name.substr(0, end));
}

std::vector<std::string> carried_parts(const FamilySpec& family) {
  std::vector<std::string> parts;
  for (const TensorSpec& tensor : family.carried)
    if (std::string part = part_of(tensor.name);
        std::find(parts.begin(), parts.end(), part) == parts.end())
      parts.push_back(std::move(part));
  return parts;
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

const FamilyInfo* find_family_of_type(std::string_view model_type) {
  for (const FamilyInfo& info : families())
    if (info.model_type == model_type) return &info;
  return nullptr;
}

const WrapperInfo* find_wrapper(std::string_view architecture) {
  for (const WrapperInfo& wrapper : kWrappers)
    if (wrapper.architecture == architecture) return &wrapper;
  return nullptr;
}

void refuse_architecture(const std::string& architecture, const std::string& more) {
  std::vector<std::string_view> known;
  for (const FamilyInfo& info : families())
    if (!info.architecture.ends_with("TextModel")) known.push_back(info.architecture);
  for (const WrapperInfo& wrapper : kWrappers) known.push_back(wrapper.architecture);
  throw Error(
      ErrorKind::kInput, "E161",
      fmt::format("architecture '{}' is not supported{}; the nearest is {}. "
                  "Supported are {}",
                  architecture, more, nearest_name(architecture, known), fmt::join(known, ", ")));
}

FamilySpec family_of(const ModelConfig& config) {
  if (const FamilyInfo* info = find_family(config.architecture)) return info->make(config);
  refuse_architecture(config.architecture, "");
}

std::vector<TensorSpec> FamilySpec::tensors() const {
  std::vector<TensorSpec> result{embedding};
  if (layer_embeddings) {
    const LayerEmbeddings& own = *layer_embeddings;
    result.insert(result.end(), {own.table, own.projection, own.norm.weight});
  }
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
  return lm_head.empty() && tensor_name == config.names.head + ".weight";
}

}  // namespace calque::model
