// Experts and their routing in config.json.
#include <fmt/format.h>

#include <algorithm>
#include <initializer_list>
#include <string_view>

#include "model/config_parts.h"

namespace calque::model {
namespace {

// A model of 61 layers with 384 experts each has 23 thousand experts. Every expert becomes three
// linears, so a false config must not exhaust memory.
constexpr Index kMostExperts = 4096;
constexpr Index kMostExpertsOfAllLayers = 200'000;

// The first of the names that is there.
const char* name_in_use(const JsonObject& json, std::initializer_list<const char*> names) {
  for (const char* name : names)
    if (json.has(name)) return name;
  return *names.begin();
}

void read_counts(const JsonObject& json, const char* name, const char* used, ModelConfig& config) {
  const char* const key = name_in_use(json, {name, "num_experts", "num_local_experts"});
  used = name_in_use(json, {used, "experts_per_token"});
  config.num_experts = json.size(key, kMostExperts);
  config.routing.used = json.size(used, kMostExperts);
  if (config.num_experts * config.num_layers > kMostExpertsOfAllLayers)
    json.refuse(key, fmt::format("is {}, which in {} layers makes more than {} experts",
                                 config.num_experts, config.num_layers, kMostExpertsOfAllLayers));
  if (config.routing.used > config.num_experts)
    json.refuse(used,
                fmt::format("is {} of only {} experts", config.routing.used, config.num_experts));
}

bool lists(const io::Json::Array& layers, Index layer) {
  return std::find(layers.begin(), layers.end(), io::Json(layer)) != layers.end();
}

// Qwen: every decoder_sparse_step-th layer, except those in mlp_only_layers.
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

std::vector<bool> all_layers(Index layers) {
  return std::vector<bool>(static_cast<std::size_t>(layers), true);
}

std::vector<bool> layers_from(Index first, Index layers) {
  std::vector<bool> sparse = all_layers(layers);
  std::fill_n(sparse.begin(), std::min(first, layers), false);
  return sparse;
}

// A count that may be 0, such as that of leading dense layers.
Index count_or(const JsonObject& json, const char* key, Index most, Index absent) {
  return json.has(key) && json.value(key) == 0 ? 0 : json.size_or(key, most, absent);
}

void read_mixtral(const JsonObject&, ModelConfig& config) {
  config.expert_intermediate_size = config.intermediate_size;
  config.experts_in_layer = all_layers(config.num_layers);
  config.routing.normalize = true;
}

void read_qwen_moe(const JsonObject& json, ModelConfig& config) {
  config.expert_intermediate_size = json.size("moe_intermediate_size", kLargestSize);
  config.experts_in_layer = sparse_layers(json, config.num_layers);
  const bool second = config.architecture == "Qwen2MoeForCausalLM";
  const bool seeing = config.architecture == "Qwen3VLMoeTextModel";
  const bool always = seeing || config.architecture == "Qwen3_5MoeForCausalLM";
  config.routing.normalize = always || json.flag_or("norm_topk_prob", has_delta_nets(config));
  if (always) config.stacked_experts = seeing ? StackedExperts::kColumns : StackedExperts::kRows;
  if (has_delta_nets(config) || second)
    config.shared_intermediate_size = json.size("shared_expert_intermediate_size", kLargestSize);
  if (second) config.attention_bias = json.flag_or("qkv_bias", true);
}

// DeepSeek V3's routing, which others took over: sigmoids, and a bias for the choice.
void use_sigmoid(ModelConfig& config) {
  config.routing.scores = Routing::Scores::kSigmoid;
  config.routing.normalize = true;
  config.routing.sum_extra = 1e-20;
}

// Several shared experts are one that is as wide as all of them.
void read_shared_count(const JsonObject& json, const char* key, Index absent, ModelConfig& config) {
  config.shared_intermediate_size =
      count_or(json, key, kMostExperts, absent) * config.expert_intermediate_size;
}

void read_groups(const JsonObject& json, ModelConfig& config) {
  Routing& routing = config.routing;
  routing.groups = json.size_or("n_group", kMostExperts, 1);
  routing.groups_used = json.size_or("topk_group", kMostExperts, 1);
  if (routing.groups == 1) return;
  const Index size = config.num_experts / routing.groups;
  if (size < 2 || size * routing.groups != config.num_experts)
    json.refuse("n_group", fmt::format("is {}, and {} experts do not make as many groups of two or "
                                       "more",
                                       routing.groups, config.num_experts));
  if (routing.groups_used > routing.groups || routing.groups_used * size < routing.used)
    json.refuse("topk_group",
                fmt::format("is {} of {} groups of {} experts, from which {} are to be chosen",
                            routing.groups_used, routing.groups, size, routing.used));
}

void read_glm4_moe(const JsonObject& json, ModelConfig& config) {
  use_sigmoid(config);
  config.expert_intermediate_size = json.size("moe_intermediate_size", kLargestSize);
  read_shared_count(json, "n_shared_experts", 1, config);
  read_groups(json, config);
  config.routing.normalize = json.flag_or("norm_topk_prob", true);
  config.routing.scale = json.positive_or("routed_scaling_factor", 1.0);
  config.experts_in_layer =
      layers_from(count_or(json, "first_k_dense_replace", kMostLayers, 1), config.num_layers);
  config.qk_norm = json.flag_or("use_qk_norm", false);
}

// mlp_layer_types names every layer; without it only the first is dense.
void read_hy_v3(const JsonObject& json, ModelConfig& config) {
  use_sigmoid(config);
  config.expert_intermediate_size = json.size("moe_intermediate_size", kLargestSize);
  read_shared_count(json, "num_shared_experts", 1, config);
  config.routing.scale = json.positive_or("router_scaling_factor", 2.826);
  config.experts_in_layer = layers_from(1, config.num_layers);
  const char* const key = "mlp_layer_types";
  if (!json.has(key)) return;
  const io::Json& types = json.value(key);
  if (!types.is_array() || types.size() != config.experts_in_layer.size())
    json.refuse(key, fmt::format("must list {} layers, as num_hidden_layers", config.num_layers));
  for (std::size_t i = 0; i < types.size(); ++i) {
    if (types.at(i) != "sparse" && types.at(i) != "dense")
      json.refuse(
          key, fmt::format("has {}; supported are \"sparse\" and \"dense\"", types.at(i).dump()));
    config.experts_in_layer[i] = types.at(i) == "sparse";
  }
}

void read_minimax_m2(const JsonObject&, ModelConfig& config) {
  use_sigmoid(config);
  config.routing.sum_extra = 0;
  config.expert_intermediate_size = config.intermediate_size;
  config.experts_in_layer = all_layers(config.num_layers);
}

// A softmax over the chosen experts alone.
void read_gpt_oss(const JsonObject& json, ModelConfig& config) {
  config.routing.normalize = true;
  config.expert_intermediate_size = config.intermediate_size;
  config.experts_in_layer = all_layers(config.num_layers);
  config.stacked_experts = StackedExperts::kAlternatingColumns;
  config.clamped_gate = {.limit = json.positive_or("swiglu_limit", 7.0),
                         .slope = json.positive_or("swiglu_alpha", 1.702)};
}

// Every moe_layer_interval-th layer from the first to the last one named.
void read_ernie4_5_moe(const JsonObject& json, ModelConfig& config) {
  if (json.flag_or("use_bias", false))
    json.refuse("use_bias", "is true; calque reads models of this class without biases");
  config.routing.normalize = true;
  config.routing.sum_floor = json.positive_or("moe_norm_min", 1e-12);
  config.expert_intermediate_size = json.size("moe_intermediate_size", kLargestSize);
  read_shared_count(json, "moe_num_shared_experts", 2, config);
  const Index first = count_or(json, "moe_layer_start_index", kMostLayers, 1);
  const Index step = json.size_or("moe_layer_interval", kMostLayers, 1);
  const char* const key = "moe_layer_end_index";
  const bool open = !json.has(key) || json.value(key) == -1;
  const Index last = open ? config.num_layers - 1 : count_or(json, key, kMostLayers, 0);
  for (Index i = 0; i < config.num_layers; ++i)
    config.experts_in_layer.push_back(i >= first && i <= last && (i + 1) % step == 0);
}

void read_gemma4_experts(const JsonObject& json, ModelConfig& config) {
  config.expert_intermediate_size = json.size("moe_intermediate_size", kLargestSize);
  config.experts_in_layer = all_layers(config.num_layers);
  config.routing.normalize = true;
  config.stacked_experts = StackedExperts::kRows;
}

}  // namespace

void read_experts(const JsonObject& json, ModelConfig& config) {
  struct Reader {
    std::string_view architecture;
    const char* count;
    const char* used;
    void (*read)(const JsonObject&, ModelConfig&);
  };
  static constexpr const char* kUsed = "num_experts_per_tok";
  static constexpr Reader kReaders[] = {
      {"Ernie4_5_MoeForCausalLM", "moe_num_experts", "moe_k", read_ernie4_5_moe},
      {"Gemma4ForCausalLM", "num_experts", "top_k_experts", read_gemma4_experts},
      {"Glm4MoeForCausalLM", "n_routed_experts", kUsed, read_glm4_moe},
      {"GptOssForCausalLM", "num_local_experts", kUsed, read_gpt_oss},
      {"HYV3ForCausalLM", "num_experts", kUsed, read_hy_v3},
      {"MiniMaxM2ForCausalLM", "num_local_experts", kUsed, read_minimax_m2},
      {"MixtralForCausalLM", "num_local_experts", kUsed, read_mixtral},
      {"Qwen2MoeForCausalLM", "num_experts", kUsed, read_qwen_moe},
      {"Qwen3MoeForCausalLM", "num_experts", kUsed, read_qwen_moe},
      {"Qwen3VLMoeTextModel", "num_experts", kUsed, read_qwen_moe},
      {"Qwen3NextForCausalLM", "num_experts", kUsed, read_qwen_moe},
      {"Qwen3_5MoeForCausalLM", "num_experts", kUsed, read_qwen_moe},
  };
  for (const Reader& reader : kReaders)
    if (reader.architecture == config.architecture) {
      if (json.has(reader.count) && json.value(reader.count) == 0) return;  // dense
      if (is_gemma4(config) && !json.flag_or("enable_moe_block", false)) return;
      read_counts(json, reader.count, reader.used, config);
      reader.read(json, config);
    }
}

}  // namespace calque::model
