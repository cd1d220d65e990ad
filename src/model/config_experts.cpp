#include <fmt/format.h>

#include <algorithm>

#include "model/config_parts.h"

namespace calque::model {
namespace {

// A model of 61 layers with 384 experts each has 23 thousand; every one becomes three linears, so a
// lying config must not ask for more than memory holds.
constexpr Index kMostExperts = 4096;
constexpr Index kMostExpertsOfAllLayers = 200'000;

void read_counts(const JsonObject& json, ModelConfig& config) {
  const char* const key = json.has("num_experts") ? "num_experts" : "num_local_experts";
  config.num_experts = json.size(key, kMostExperts);
  config.experts_per_token = json.size("num_experts_per_tok", kMostExperts);
  if (config.num_experts * config.num_layers > kMostExpertsOfAllLayers)
    json.refuse(key, fmt::format("is {}, which in {} layers makes more than {} experts",
                                 config.num_experts, config.num_layers, kMostExpertsOfAllLayers));
  if (config.experts_per_token > config.num_experts)
    json.refuse("num_experts_per_tok", fmt::format("is {} of only {} experts",
                                                   config.experts_per_token, config.num_experts));
}

bool lists(const io::Json::Array& layers, Index layer) {
  return std::find(layers.begin(), layers.end(), io::Json(layer)) != layers.end();
}

// Qwen: every decoder_sparse_step-th layer, but for those of mlp_only_layers.
std::vector<bool> sparse_layers(const JsonObject& json, Index layers) {
  static const io::Json none = io::Json::array();
  const Index step = json.size_or("decoder_sparse_step", kMostLayers, 1);
  const io::Json& dense = json.has("mlp_only_layers") ? json.value("mlp_only_layers") : none;
  if (!dense.is_array()) json.refuse("mlp_only_layers", "must be a list of layers");
  std::vector<bool> sparse;
  for (Index layer = 0; layer < layers; ++layer)
    sparse.push_back((layer + 1) % step == 0 && !lists(dense.elements(), layer));
  return sparse;
}

}  // namespace

void read_experts(const JsonObject& json, ModelConfig& config) {
  const std::string& architecture = config.architecture;
  const bool mixtral = architecture == "MixtralForCausalLM";
  const bool qwen2 = architecture == "Qwen2MoeForCausalLM";
  if (!mixtral && !qwen2 && architecture != "Qwen3MoeForCausalLM") return;
  read_counts(json, config);
  config.expert_intermediate_size =
      mixtral ? config.intermediate_size : json.size("moe_intermediate_size", kLargestSize);
  config.normalize_experts = mixtral || json.flag_or("norm_topk_prob", false);
  config.experts_in_layer =
      mixtral ? std::vector<bool>(static_cast<std::size_t>(config.num_layers), true)
              : sparse_layers(json, config.num_layers);
  if (qwen2) {
    config.shared_intermediate_size = json.size("shared_expert_intermediate_size", kLargestSize);
    config.attention_bias = json.flag_or("qkv_bias", true);
  }
}

}  // namespace calque::model
