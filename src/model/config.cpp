#include "calque/model/config.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "calque/core/error.h"
#include "calque/io/file.h"
#include "model/json_object.h"

namespace calque::model {
namespace {

// Far above any model, and low enough that a product of two of them fits an Index.
constexpr Index kLargestSize = (Index{1} << 31) - 1;
constexpr Index kMostLayers = 10'000;
constexpr Index kLargestHead = 65'536;

nlohmann::json parse_json(const std::string& text, const std::string& where) {
  try {
    return nlohmann::json::parse(text);
  } catch (const nlohmann::json::exception& error) {
    throw Error(ErrorKind::kInput, "E162", fmt::format("{}: not JSON: {}", where, error.what()));
  }
}

std::string architecture_of(const JsonObject& json) {
  const nlohmann::json& names = json.value("architectures");
  if (!names.is_array() || names.empty() || !names.front().is_string())
    json.refuse("architectures", "must be a list with one name, such as [\"LlamaForCausalLM\"]");
  return names.front().get<std::string>();
}

void read_sizes(const JsonObject& json, ModelConfig& config) {
  config.hidden_size = json.size("hidden_size", kLargestSize);
  config.intermediate_size = json.size("intermediate_size", kLargestSize);
  config.num_layers = json.size("num_hidden_layers", kMostLayers);
  config.num_heads = json.size("num_attention_heads", kLargestSize);
  config.num_kv_heads = json.size_or("num_key_value_heads", kLargestSize, config.num_heads);
  config.vocab_size = json.size("vocab_size", kLargestSize);
  config.max_positions = json.size("max_position_embeddings", kLargestSize);
  if (config.num_heads % config.num_kv_heads != 0)
    json.refuse("num_key_value_heads", fmt::format("is {} and does not divide the {} heads of "
                                                   "num_attention_heads",
                                                   config.num_kv_heads, config.num_heads));
}

void read_head_dim(const JsonObject& json, ModelConfig& config) {
  if (!json.has("head_dim") && config.hidden_size % config.num_heads != 0)
    json.refuse("head_dim", fmt::format("is missing, and hidden_size {} is not a multiple of "
                                        "num_attention_heads {}",
                                        config.hidden_size, config.num_heads));
  config.head_dim = json.size_or("head_dim", kLargestHead, config.hidden_size / config.num_heads);
  if (config.head_dim % 2 != 0 || config.head_dim > kLargestHead)
    json.refuse("head_dim", fmt::format("is {}; rotary positions need an even number up to {}",
                                        config.head_dim, kLargestHead));
}

// transformers 5 writes rope_parameters, older versions rope_theta beside rope_scaling, whose
// "type" became "rope_type" on the way.
std::string rope_type_of(const JsonObject& rope) {
  const std::string type = rope.text_or("rope_type", rope.text_or("type", "default"));
  if (type != "default" && type != "linear" && type != "llama3")
    rope.refuse("rope_type", fmt::format("is '{}', which is not supported; supported are default, "
                                         "linear and llama3",
                                         type));
  return type;
}

void read_llama3(const JsonObject& json, const JsonObject& rope, RopeSpec& spec) {
  spec.scaling = RopeSpec::Scaling::kLlama3;
  spec.factor = rope.positive("factor");
  spec.low_freq_factor = rope.positive("low_freq_factor");
  spec.high_freq_factor = rope.positive("high_freq_factor");
  const char* const kOriginal = "original_max_position_embeddings";
  spec.original_max_positions =
      (rope.has(kOriginal) || !json.has(kOriginal) ? rope : json).size(kOriginal, kLargestSize);
  if (spec.high_freq_factor <= spec.low_freq_factor)
    rope.refuse("high_freq_factor", fmt::format("is {} and must be above low_freq_factor {}",
                                                spec.high_freq_factor, spec.low_freq_factor));
}

RopeSpec read_rope(const JsonObject& json) {
  RopeSpec spec;
  spec.theta = json.positive_or("rope_theta", spec.theta);
  if (json.positive_or("partial_rotary_factor", 1.0) != 1.0)
    json.refuse("partial_rotary_factor", "other than 1 is not supported");
  const char* key = json.has("rope_parameters") ? "rope_parameters" : "rope_scaling";
  if (!json.has(key)) return spec;

  const JsonObject rope = json.object(key);
  spec.theta = rope.positive_or("rope_theta", spec.theta);
  if (rope.positive_or("partial_rotary_factor", 1.0) != 1.0)
    rope.refuse("partial_rotary_factor", "other than 1 is not supported");
  const std::string type = rope_type_of(rope);
  if (type == "llama3") read_llama3(json, rope, spec);
  if (type == "linear") {
    spec.scaling = RopeSpec::Scaling::kLinear;
    spec.factor = rope.positive("factor");
  }
  return spec;
}

// Mistral: every layer. transformers fills 4096 in where the key is absent; null means none.
std::vector<Index> mistral_windows(const nlohmann::json& raw, const JsonObject& json,
                                   Index layers) {
  const bool none = raw.contains("sliding_window") && raw.at("sliding_window").is_null();
  const Index window = none ? 0 : json.size_or("sliding_window", kLargestSize, 4096);
  return std::vector<Index>(static_cast<std::size_t>(layers), window);
}

// Qwen: only with use_sliding_window, and then where layer_types says so; before that key existed,
// in layers from max_window_layers on.
std::vector<Index> qwen_windows(const JsonObject& json, Index layers) {
  std::vector<Index> windows(static_cast<std::size_t>(layers), 0);
  if (!json.flag_or("use_sliding_window", false)) return windows;
  const Index window = json.size_or("sliding_window", kLargestSize, 4096);
  if (!json.has("layer_types")) {
    const Index first =
        json.has("max_window_layers") && json.value("max_window_layers") == nlohmann::json(0)
            ? 0
            : json.size_or("max_window_layers", kLargestSize, 28);
    for (Index i = first; i < layers; ++i) windows[static_cast<std::size_t>(i)] = window;
    return windows;
  }
  const nlohmann::json& types = json.value("layer_types");
  if (!types.is_array() || types.size() != windows.size())
    json.refuse("layer_types", fmt::format("must list {} layers, as num_hidden_layers", layers));
  for (std::size_t i = 0; i < windows.size(); ++i)
    if (types[i] == "sliding_attention") windows[i] = window;
  return windows;
}

std::vector<Index> read_windows(const nlohmann::json& raw, const JsonObject& json,
                                const ModelConfig& config) {
  if (config.architecture.starts_with("Mistral"))
    return mistral_windows(raw, json, config.num_layers);
  if (config.architecture.starts_with("Qwen")) return qwen_windows(json, config.num_layers);
  return std::vector<Index>(static_cast<std::size_t>(config.num_layers), 0);
}

}  // namespace

ModelConfig parse_config(const std::string& json_text, const std::string& where) {
  const nlohmann::json raw = parse_json(json_text, where);
  const JsonObject json(raw, where);
  ModelConfig config;
  config.architecture = architecture_of(json);
  config.model_type = json.text_or("model_type", "");
  read_sizes(json, config);
  read_head_dim(json, config);
  config.rms_norm_eps = json.positive_or("rms_norm_eps", config.rms_norm_eps);
  config.rope = read_rope(json);
  config.window_of_layer = read_windows(raw, json, config);
  config.tie_word_embeddings = json.flag_or("tie_word_embeddings", false);
  config.attention_bias = json.flag_or("attention_bias", false);
  config.mlp_bias = json.flag_or("mlp_bias", false);
  config.hidden_act = json.text_or("hidden_act", config.hidden_act);
  if (config.hidden_act != "silu")
    json.refuse("hidden_act", fmt::format("is '{}'; only silu is supported", config.hidden_act));
  config.dtype = json.text_or("dtype", json.text_or("torch_dtype", ""));
  config.bos_token_id = json.first_id("bos_token_id");
  config.eos_token_id = json.first_id("eos_token_id");
  return config;
}

ModelConfig load_config(const std::filesystem::path& folder) {
  const std::filesystem::path path = folder / "config.json";
  return parse_config(io::read_file(path), path.string());
}

}  // namespace calque::model
