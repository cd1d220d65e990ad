#include "formats/mlx_models.h"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <map>
#include <string_view>
#include <utility>

namespace calque::formats {
namespace {

using io::Json;

// mlx-lm makes its own tensors of a checkpoint's (`sanitize` of each class), packed ones included,
// as long as it only renames them. Some classes stack the experts of a layer with their scales and
// biases, others only their weights.
enum class Experts { kPacked, kPlain };

struct MlxModel {
  std::string_view architecture;  // the wrapper's, if there is one
  Experts experts = Experts::kPlain;
};

// The classes of mlx-lm 0.32.2 that load what calque writes (tests/loaders/mlx_folders.py).
constexpr MlxModel kModels[] = {
    {"Gemma2ForCausalLM"},
    {"Gemma3ForCausalLM"},
    {"Glm4MoeForCausalLM", Experts::kPacked},
    {"LlamaForCausalLM"},
    {"Ministral3ForCausalLM"},
    {"Mistral3ForConditionalGeneration"},
    {"MistralForCausalLM"},
    {"MixtralForCausalLM", Experts::kPacked},
    {"Olmo3ForCausalLM"},
    {"Phi3ForCausalLM"},
    {"Qwen2ForCausalLM"},
    {"Qwen2MoeForCausalLM", Experts::kPacked},
    {"Qwen3ForCausalLM"},
    {"Qwen3MoeForCausalLM"},
    {"Qwen3VLForConditionalGeneration"},
    {"Qwen3_5ForConditionalGeneration"},
    {"SeedOssForCausalLM"},
    {"SmolLM3ForCausalLM"},
};

constexpr std::string_view kExperts = ".experts.";

bool is_expert(const std::string& module) { return module.find(kExperts) != std::string::npos; }

void add_key(Json& keys, std::string_view name, const Json& value) {
  const Json* found = keys.find(std::string(name));
  if (found == nullptr || found->is_null()) keys[name] = value;
}

void add_theta(Json& keys, std::string_view name, const Json* rope) {
  if (rope == nullptr || !rope->is_object()) return;
  if (const Json* theta = rope->find("rope_theta")) add_key(keys, name, *theta);
}

// Modules of one stack must agree.
void check_stacks(const SettingsOfModule& modules, Refusals& refusals) {
  std::map<std::string, std::pair<std::string, ModuleSettings>> first;
  for (const auto& [name, settings] : modules) {
    if (!is_expert(name)) continue;
    const auto [found, added] = first.try_emplace(mlx_path(name, false), name, settings);
    if (added || found->second.second == settings) continue;
    refusals.add("E148", fmt::format("mlx-lm stacks the experts of a layer, but '{}' and '{}' have "
                                     "different settings. Give all of them one rule "
                                     "('*.experts.*').",
                                     found->second.first, name));
    return;
  }
}

}  // namespace

void check_mlx_models(const model::ModelConfig& config, const SettingsOfModule& modules,
                      Refusals& refusals) {
  const std::string& architecture = config.wrapper.empty() ? config.architecture : config.wrapper;
  const auto* found = std::ranges::find(kModels, architecture, &MlxModel::architecture);
  if (found == std::end(kModels)) {
    refusals.add("E148", fmt::format("mlx-lm does not load folders of {} that calque writes: it "
                                     "has no such class, or expects other tensors. Export gguf "
                                     "instead.",
                                     architecture));
    return;
  }
  const auto rounded =
      std::ranges::count_if(modules, [](const auto& module) { return is_expert(module.first); });
  if (rounded > 0 && found->experts == Experts::kPlain)
    refusals.add("E148", fmt::format("mlx-lm loads the experts of {} only as they were published, "
                                     "but {} of their matrices would be rounded. Leave them (a "
                                     "rule with match: '*.experts.*', skip: true), or export gguf.",
                                     architecture, rounded));
  check_stacks(modules, refusals);
}

void add_mlx_keys(const model::ModelConfig& model, io::Json& config) {
  const io::Json* text = config.find("text_config");
  Json& keys = text != nullptr && text->is_object() ? config["text_config"] : config;
  add_key(keys, "head_dim", Json(model.head_dim));
  add_key(keys, "tie_word_embeddings", Json(model.tie_word_embeddings));
  const Json* found = keys.find("rope_parameters");
  if (found == nullptr || !found->is_object()) return;
  const Json rope = *found;
  if (const Json* theta = rope.find("rope_theta")) {
    add_key(keys, "rope_theta", *theta);
    const Json* type = rope.find("rope_type");
    const bool scaled = type != nullptr && *type != Json("default");
    Json scaling = rope;
    if (scaled) scaling["type"] = *type;
    add_key(keys, "rope_scaling", scaled ? scaling : Json());
    if (const Json* share = rope.find("partial_rotary_factor"))
      add_key(keys, "partial_rotary_factor", *share);
    return;
  }
  add_theta(keys, "rope_theta", rope.find("full_attention"));
  add_theta(keys, "rope_local_base_freq", rope.find("sliding_attention"));
}

std::string mlx_path(std::string module, bool wrapped) {
  constexpr std::string_view kInner = "model.language_model.";
  if (module.starts_with(kInner))
    module = "language_model.model." + module.substr(kInner.size());
  else if (wrapped && module == "lm_head")
    module = "language_model.lm_head";
  const std::size_t at = module.find(kExperts);
  if (at == std::string::npos) return module;
  const std::size_t number = at + kExperts.size();
  const std::size_t dot = module.find('.', number);
  std::string role = dot == std::string::npos ? "" : module.substr(dot + 1);
  constexpr std::pair<std::string_view, std::string_view> kMixtral[] = {
      {"w1", "gate_proj"}, {"w2", "down_proj"}, {"w3", "up_proj"}};
  for (const auto& [published, name] : kMixtral)
    if (role == published) role = name;
  return module.substr(0, at) + ".switch_mlp." + role;
}

}  // namespace calque::formats
