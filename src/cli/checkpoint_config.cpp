#include "cli/checkpoint_config.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <utility>

#include "calque/core/error.h"

namespace calque::cli {
namespace {

using Json = nlohmann::ordered_json;

Json rope_scaling_json(const model::RopeSpec& rope) {
  using Scaling = model::RopeSpec::Scaling;
  if (rope.scaling == Scaling::kNone) return nullptr;
  if (rope.scaling == Scaling::kLinear) return {{"rope_type", "linear"}, {"factor", rope.factor}};
  return {{"rope_type", "llama3"},
          {"factor", rope.factor},
          {"low_freq_factor", rope.low_freq_factor},
          {"high_freq_factor", rope.high_freq_factor},
          {"original_max_position_embeddings", rope.original_max_positions}};
}

// Mistral has one window for all layers, and a default that only null turns off; Qwen has a switch
// and a list of layers.
void add_windows(Json& json, const model::ModelConfig& config) {
  const auto& windows = config.window_of_layer;
  const Index window = windows.empty() ? 0 : *std::max_element(windows.begin(), windows.end());
  const bool switched = config.architecture.starts_with("Qwen");
  if (switched) json["use_sliding_window"] = window > 0;
  if (switched || config.architecture.starts_with("Mistral"))
    json["sliding_window"] = window > 0 ? Json(window) : Json(nullptr);
  if (!switched || window == 0) return;
  Json types = Json::array();
  for (const Index w : windows) types.push_back(w > 0 ? "sliding_attention" : "full_attention");
  json["layer_types"] = types;
}

}  // namespace

std::string plain_config_json(const std::string& config_json, const std::string& dtype,
                              const std::string& where) {
  Json json;
  try {
    json = Json::parse(config_json);
  } catch (const Json::exception& error) {
    throw Error(ErrorKind::kInput, "E162", fmt::format("{}: not JSON: {}", where, error.what()));
  }
  if (!json.is_object())
    throw Error(ErrorKind::kInput, "E162", fmt::format("{}: not a JSON object", where));
  json.erase("quantization_config");
  // transformers 5 renamed torch_dtype; both are read when both are there.
  const bool renamed = json.contains("dtype");
  if (renamed) json["dtype"] = dtype;
  if (!renamed || json.contains("torch_dtype")) json["torch_dtype"] = dtype;
  return json.dump(2) + "\n";
}

std::string generated_config_json(const model::ModelConfig& config, const std::string& dtype) {
  Json json = {{"architectures", {config.architecture}},
               {"model_type", config.model_type},
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
  add_windows(json, config);
  if (config.bos_token_id) json["bos_token_id"] = *config.bos_token_id;
  if (config.eos_token_id) json["eos_token_id"] = *config.eos_token_id;
  return json.dump(2) + "\n";
}

}  // namespace calque::cli
