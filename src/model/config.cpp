#include "calque/model/config.h"

#include <fmt/format.h>

#include <algorithm>

#include "calque/core/error.h"
#include "calque/io/file.h"
#include "model/config_parts.h"

namespace calque::model {
namespace {

constexpr const char* kDamaged = "E162";

io::Json parsed(const std::string& text, const std::string& where) {
  try {
    return io::parse_json(text);
  } catch (const Error& error) {
    throw Error(ErrorKind::kInput, kDamaged, where + ": " + error.what());
  }
}

// A number, or the first of a list of numbers (eos_token_id comes both ways).
std::optional<std::int64_t> first_id(const JsonObject& json, const char* key) {
  if (!json.has(key)) return std::nullopt;
  const io::Json& value = json.value(key);
  const io::Json& id = value.is_array() && !value.empty() ? value.at(0) : value;
  if (!id.is_integer())
    json.refuse(key, fmt::format("must be a token id or a list of them, found {}", value.dump()));
  return id.integer();
}

std::string architecture_of(const JsonObject& json) {
  const io::Json& names = json.value("architectures");
  if (!names.is_array() || names.empty() || !names.at(0).is_string())
    json.refuse("architectures", "must be a list with one name, such as [\"LlamaForCausalLM\"]");
  return names.at(0).string();
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
  if (!json.has("head_dim") && !is_gemma(config) && config.hidden_size % config.num_heads != 0)
    json.refuse("head_dim", fmt::format("is missing, and hidden_size {} is not a multiple of "
                                        "num_attention_heads {}",
                                        config.hidden_size, config.num_heads));
  // The default of transformers' Gemma classes is a number, of the others a quotient.
  const Index absent = is_gemma(config) ? 256 : config.hidden_size / config.num_heads;
  config.head_dim = json.size_or("head_dim", kLargestHead, absent);
  if (config.head_dim % 2 != 0 || config.head_dim > kLargestHead)
    json.refuse("head_dim", fmt::format("is {}; rotary positions need an even number up to {}",
                                        config.head_dim, kLargestHead));
}

// Gemma 1 names "gelu" in hidden_act and means the tanh form; its hidden_activation, and that of
// the later ones, goes before hidden_act.
void read_activation(const JsonObject& json, ModelConfig& config) {
  const bool gemma = is_gemma(config);
  const char* const key =
      gemma && json.has("hidden_activation") ? "hidden_activation" : "hidden_act";
  config.hidden_act = json.text_or(key, gemma ? "gelu_pytorch_tanh" : "silu");
  if (gemma && key == std::string("hidden_act") && config.hidden_act == "gelu")
    config.hidden_act = "gelu_pytorch_tanh";
  if (config.hidden_act != "silu" && config.hidden_act != "gelu_pytorch_tanh")
    json.refuse(
        key, fmt::format("is '{}'; supported are silu and gelu_pytorch_tanh", config.hidden_act));
}

}  // namespace

bool is_gemma(const ModelConfig& config) { return config.architecture.starts_with("Gemma"); }

ModelConfig parse_config(const std::string& json_text, const std::string& where) {
  const io::Json raw = parsed(json_text, where);
  const JsonObject json(raw, where, kDamaged);
  json.expect_object();
  ModelConfig config;
  config.architecture = architecture_of(json);
  config.model_type = json.text_or("model_type", "");
  read_sizes(json, config);
  read_head_dim(json, config);
  config.rms_norm_eps = json.positive_or("rms_norm_eps", config.rms_norm_eps);
  read_rope(json, config);
  config.window_of_layer = read_windows(json, config);
  config.tie_word_embeddings = json.flag_or("tie_word_embeddings", is_gemma(config));
  config.attention_bias = json.flag_or("attention_bias", false);
  config.mlp_bias = json.flag_or("mlp_bias", false);
  read_activation(json, config);
  if (is_gemma(config)) read_gemma(json, config);
  read_experts(json, config);
  config.dtype = json.text_or("dtype", json.text_or("torch_dtype", ""));
  config.bos_token_id = first_id(json, "bos_token_id");
  config.eos_token_id = first_id(json, "eos_token_id");
  return config;
}

ModelConfig load_config(const std::filesystem::path& folder) {
  const std::filesystem::path path = folder / "config.json";
  return parse_config(io::read_file(path), path.string());
}

}  // namespace calque::model
