#include "calque/formats/checkpoint_config.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <initializer_list>
#include <string_view>
#include <tuple>
#include <utility>

#include "calque/core/error.h"
#include "calque/io/json.h"
#include "calque/model/tied_head.h"

namespace calque::formats {
namespace {

using io::Json;

Json rope_scaling_json(const model::RopeSpec& rope) {
  using Scaling = model::RopeSpec::Scaling;
  if (rope.scaling == Scaling::kNone) return nullptr;
  if (rope.scaling == Scaling::kLinear) return {{"rope_type", "linear"}, {"factor", rope.factor}};
  if (rope.scaling == Scaling::kLongRope)
    return {{"rope_type", "longrope"},
            {"short_factor", rope.short_factors},
            {"long_factor", rope.long_factors},
            {"attention_factor", rope.attention_factor},
            {"original_max_position_embeddings", rope.original_max_positions}};
  if (rope.scaling == Scaling::kYarn) {
    Json json = {{"rope_type", "yarn"},
                 {"factor", rope.factor},
                 {"original_max_position_embeddings", rope.original_max_positions},
                 {"beta_fast", rope.beta_fast},
                 {"beta_slow", rope.beta_slow},
                 {"attention_factor", rope.attention_factor}};
    if (!rope.truncate) json["truncate"] = false;
    if (rope.query_growth != 0) json["llama_4_scaling_beta"] = rope.query_growth;
    return json;
  }
  return {{"rope_type", "llama3"},
          {"factor", rope.factor},
          {"low_freq_factor", rope.low_freq_factor},
          {"high_freq_factor", rope.high_freq_factor},
          {"original_max_position_embeddings", rope.original_max_positions}};
}

bool is_any_of(const std::string& architecture, std::initializer_list<std::string_view> starts) {
  return std::any_of(starts.begin(), starts.end(),
                     [&](std::string_view start) { return architecture.starts_with(start); });
}

// Mistral, Mixtral and Phi-3 have one window for all layers, and for some of them null is needed to
// turn off a default. Qwen has a switch and a list of layers, Gemma a list.
void add_windows(Json& json, const model::ModelConfig& config) {
  const auto& windows = config.window_of_layer;
  const Index window = windows.empty() ? 0 : *std::max_element(windows.begin(), windows.end());
  const bool switched = config.architecture.starts_with("Qwen") && config.delta_net_layers.empty();
  const bool listed = switched || is_any_of(config.architecture, {"Exaone4", "Gemma2", "Gemma3",
                                                                  "Gemma4", "GptOss", "Olmo3"});
  if (switched) json["use_sliding_window"] = window > 0;
  if (listed || is_any_of(config.architecture, {"Mistral", "Ministral3", "Mixtral", "Phi3"}))
    json["sliding_window"] = window > 0 ? Json(window) : Json(nullptr);
  if (!listed || window == 0) return;
  Json types = Json::array();
  for (const Index w : windows) types.push_back(w > 0 ? "sliding_attention" : "full_attention");
  json["layer_types"] = types;
}

void add_positions(Json& json, const model::ModelConfig& config) {
  if (config.rope.channels > 0 || is_any_of(config.architecture, {"Glm4Moe"}))
    json["partial_rotary_factor"] = static_cast<double>(config.rope.turned(config.head_dim)) /
                                    static_cast<double>(config.head_dim);
  if (is_any_of(config.architecture, {"SeedOss"}))
    json["attention_out_bias"] = config.attention_out_bias;
  if (!is_any_of(config.architecture, {"SmolLM3"}) || config.turned_layers.empty()) return;
  Json turned = Json::array();
  for (const bool turns : config.turned_layers) turned.push_back(turns ? 1 : 0);
  json["no_rope_layers"] = turned;
}

void add_delta_nets(Json& json, const model::ModelConfig& config) {
  if (config.delta_net_layers.empty()) return;
  const model::DeltaNetSizes& sizes = config.delta_net;
  json["linear_num_key_heads"] = sizes.key_heads;
  json["linear_num_value_heads"] = sizes.value_heads;
  json["linear_key_head_dim"] = sizes.key_dim;
  json["linear_value_head_dim"] = sizes.value_dim;
  json["linear_conv_kernel_dim"] = sizes.kernel;
  // A quarter of a head turns where nothing is said.
  if (config.rope.channels == 0) json["partial_rotary_factor"] = 1.0;
  Json types = Json::array();
  for (const bool linear : config.delta_net_layers)
    types.push_back(linear ? "linear_attention" : "full_attention");
  json["layer_types"] = types;
  if (config.rope_sections.empty()) return;
  const double share = config.rope.channels == 0 ? 1.0
                                                 : static_cast<double>(config.rope.channels) /
                                                       static_cast<double>(config.head_dim);
  json["rope_parameters"] = {
      {"rope_type", "default"},
      {"rope_theta", config.rope.theta},
      {"partial_rotary_factor", share},
      {"mrope_interleaved", true},
      {"mrope_section",
       std::vector<Index>(config.rope_sections.begin(), config.rope_sections.begin() + 3)}};
}

Json cap_json(double cap) { return cap > 0 ? Json(cap) : Json(nullptr); }

void add_gemma(Json& json, const model::ModelConfig& config) {
  if (!is_any_of(config.architecture, {"Gemma"})) return;
  json["hidden_activation"] = config.hidden_act;
  if (config.query_scale == 0 || is_any_of(config.architecture, {"Gemma4"})) return;
  // A whole number for every model: the shortest decimal that gives back the scale.
  const double scalar = 1 / (config.query_scale * config.query_scale);
  json["query_pre_attn_scalar"] =
      std::abs(scalar - std::round(scalar)) < 1e-6 ? std::round(scalar) : scalar;
  json["attn_logit_softcapping"] = cap_json(config.attention_softcap);
  json["final_logit_softcapping"] = cap_json(config.logit_softcap);
  if (is_any_of(config.architecture, {"Gemma3"}))
    json["rope_local_base_freq"] = config.local_rope.theta;
}

void add_gemma4(Json& json, const model::ModelConfig& config) {
  if (!is_any_of(config.architecture, {"Gemma4"})) return;
  json["final_logit_softcapping"] = cap_json(config.logit_softcap);
  json["attention_k_eq_v"] = config.full_values_are_keys;
  json["global_head_dim"] = config.full_head_dim;
  json["num_global_key_value_heads"] =
      config.full_values_are_keys ? Json(config.full_kv_heads) : Json(nullptr);
  json["num_kv_shared_layers"] = config.shared_kv_layers;
  json["use_double_wide_mlp"] = config.shared_kv_intermediate_size > 0;
  json["hidden_size_per_layer_input"] = config.layer_embedding_size;
  json["vocab_size_per_layer_input"] = config.vocab_size;
  json["enable_moe_block"] = config.num_experts > 0;
  Json full = {{"rope_type", "default"}, {"rope_theta", config.rope.theta}};
  if (config.rope.scaling == model::RopeSpec::Scaling::kProportional) {
    full["rope_type"] = "proportional";
    full["partial_rotary_factor"] = config.rope.proportion;
    if (config.rope.factor != 1) full["factor"] = config.rope.factor;
  }
  json["rope_parameters"] = {
      {"full_attention", full},
      {"sliding_attention", {{"rope_type", "default"}, {"rope_theta", config.local_rope.theta}}}};
  json.erase("rope_theta");
  json.erase("rope_scaling");
}

Json shared_count(const model::ModelConfig& config) {
  return config.shared_intermediate_size / config.expert_intermediate_size;
}

void add_glm4_moe(Json& json, const model::ModelConfig& config) {
  json["n_routed_experts"] = config.num_experts;
  json["n_shared_experts"] = shared_count(config);
  json["first_k_dense_replace"] = model::first_expert_layer(config);
  json["n_group"] = config.routing.groups;
  json["topk_group"] = config.routing.groups_used;
  json["norm_topk_prob"] = config.routing.normalize;
  json["routed_scaling_factor"] = config.routing.scale;
  json["use_qk_norm"] = config.qk_norm;
}

void add_hy_v3(Json& json, const model::ModelConfig& config) {
  json["num_experts"] = config.num_experts;
  json["num_shared_experts"] = shared_count(config);
  json["router_scaling_factor"] = config.routing.scale;
  json["mlp_layer_types"] = Json::array();
  for (const bool sparse : config.experts_in_layer)
    json["mlp_layer_types"].push_back(sparse ? "sparse" : "dense");
}

void add_ernie4_5_moe(Json& json, const model::ModelConfig& config) {
  json["moe_num_experts"] = config.num_experts;
  json["moe_k"] = config.routing.used;
  json["moe_num_shared_experts"] = shared_count(config);
  json["moe_layer_start_index"] = model::first_expert_layer(config);
  json["moe_layer_end_index"] = config.num_layers - 1;
  json["moe_layer_interval"] = model::expert_layer_step(config);
  json["moe_norm_min"] = config.routing.sum_floor;
}

void add_experts(Json& json, const model::ModelConfig& config) {
  if (config.num_experts == 0) return;
  const bool narrow = !is_any_of(config.architecture, {"GptOss", "Mixtral", "MiniMaxM2"});
  if (narrow) json["moe_intermediate_size"] = config.expert_intermediate_size;
  if (is_any_of(config.architecture, {"Ernie4_5_Moe"})) return add_ernie4_5_moe(json, config);
  if (is_any_of(config.architecture, {"Gemma4"})) {
    json["num_experts"] = config.num_experts;
    json["top_k_experts"] = config.routing.used;
    return;
  }
  json["num_experts_per_tok"] = config.routing.used;
  if (is_any_of(config.architecture, {"Glm4Moe"})) return add_glm4_moe(json, config);
  if (is_any_of(config.architecture, {"HYV3"})) return add_hy_v3(json, config);
  json[narrow ? "num_experts" : "num_local_experts"] = config.num_experts;
  if (config.clamped_gate) {
    json["swiglu_limit"] = config.clamped_gate.limit;
    json["swiglu_alpha"] = config.clamped_gate.slope;
  }
  if (!narrow) return;
  json["norm_topk_prob"] = config.routing.normalize;
  json["decoder_sparse_step"] = 1;
  json["mlp_only_layers"] = Json::array();
  for (std::size_t layer = 0; layer < config.experts_in_layer.size(); ++layer)
    if (!config.experts_in_layer[layer]) json["mlp_only_layers"].push_back(layer);
  if (config.shared_intermediate_size == 0) return;
  json["shared_expert_intermediate_size"] = config.shared_intermediate_size;
  json["qkv_bias"] = config.attention_bias;
}

// The language models of Qwen's wrappers have no class of their own for text alone; in text they
// are the same as these.
std::pair<std::string, std::string> written_class(const model::ModelConfig& config) {
  if (config.architecture == "Qwen3VLTextModel") return {"Qwen3ForCausalLM", "qwen3"};
  if (config.architecture == "Qwen3VLMoeTextModel") return {"Qwen3MoeForCausalLM", "qwen3_moe"};
  if (config.architecture == "Gemma4UnifiedTextModel") return {"Gemma4ForCausalLM", "gemma4_text"};
  if (config.architecture.ends_with("VLTextModel")) return {"Qwen2ForCausalLM", "qwen2"};
  return {config.architecture, config.model_type};
}

Json config_json(const model::ModelConfig& config, const std::string& dtype) {
  const auto [architecture, model_type] = written_class(config);
  Json json = {{"architectures", Json::array({architecture})},
               {"model_type", model_type},
               {"hidden_size", config.hidden_size},
               {"intermediate_size", config.intermediate_size},
               {"num_hidden_layers", config.num_layers},
               {"num_attention_heads", config.num_heads},
               {"num_key_value_heads", config.num_kv_heads},
               {"head_dim", config.head_dim},
               {"vocab_size", config.vocab_size},
               {"max_position_embeddings", config.max_positions},
               {"rms_norm_eps", config.rms_norm_eps},
               {"rope_theta", config.rope.theta},
               {"rope_scaling", rope_scaling_json(config.rope)},
               {"hidden_act", config.hidden_act},
               {"tie_word_embeddings", config.tie_word_embeddings},
               {"attention_bias", config.attention_bias},
               {"mlp_bias", config.mlp_bias},
               {"torch_dtype", dtype}};
  add_positions(json, config);
  add_windows(json, config);
  add_delta_nets(json, config);
  add_gemma(json, config);
  add_gemma4(json, config);
  add_experts(json, config);
  if (config.bos_token_id) json["bos_token_id"] = *config.bos_token_id;
  if (config.eos_token_id) json["eos_token_id"] = *config.eos_token_id;
  return json;
}

// The language model that a configuration is about: in text, sections of frequencies and features
// of images change nothing.
model::ModelConfig model_of(model::ModelConfig config) {
  config.rope_sections.clear();
  config.stacked_experts = model::StackedExperts::kNone;  // written one by one
  config.deepstack_layers = 0;
  // Tensors say so in GGUF, and other classes have these norms without a key.
  if (!is_any_of(config.architecture, {"Glm4Moe"})) config.qk_norm = false;
  std::tie(config.architecture, config.model_type) = written_class(config);
  config.dtype.clear();
  config.remarks.clear();
  return config;
}

}  // namespace

std::string plain_config_json(const std::string& config_json, const std::string& dtype,
                              const std::string& where, bool own_head) {
  Json json;
  try {
    json = io::parse_json(config_json);
  } catch (const Error& error) {
    throw Error(ErrorKind::kInput, "E162", fmt::format("{}: {}", where, error.what()));
  }
  if (!json.is_object())
    throw Error(ErrorKind::kInput, "E162", fmt::format("{}: not a JSON object", where));
  json.erase("quantization_config");
  json.erase("quantization");  // MLX's name of it
  if (own_head && model::ties_head(json)) json["tie_word_embeddings"] = false;
  // transformers 5 renamed torch_dtype to dtype; both are read if both are present.
  const bool renamed = json.contains("dtype");
  if (renamed) json["dtype"] = dtype;
  if (!renamed || json.contains("torch_dtype")) json["torch_dtype"] = dtype;
  return json.dump(2) + "\n";
}

std::string generated_config_json(const model::ModelConfig& config, const std::string& dtype) {
  const std::string text = config_json(config, dtype).dump(2) + "\n";
  if (model_of(model::parse_config(text, "config.json")) == model_of(config)) return text;
  throw Error(ErrorKind::kConfig, "E126",
              fmt::format("no config.json of {} can be made from this GGUF file: its settings are "
                          "beyond what calque writes there. Start from the model's original folder",
                          config.architecture));
}

std::string generated_config_json(const model::FamilySpec& family,
                                  const model::ModelSource& source) {
  const DType dtype = source.at(family.embedding.name).dtype;
  return generated_config_json(family.config, dtype == DType::kF16    ? "float16"
                                              : dtype == DType::kBF16 ? "bfloat16"
                                                                      : "float32");
}

}  // namespace calque::formats
