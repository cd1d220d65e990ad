#include "calque/model/config.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <string_view>

#include "calque/core/error.h"
#include "calque/io/file.h"
#include "calque/io/json.h"
#include "calque/model/family.h"
#include "model/config_parts.h"

namespace calque::model {
namespace {

constexpr Index kLargestHead = 65'536;
constexpr Index kLargestKernel = 64;

bool is_gemma(const ModelConfig& config) { return config.architecture.starts_with("Gemma"); }

constexpr const char* kDamaged = "E162";

io::Json parsed(const std::string& text, const std::string& where) {
  try {
    return io::parse_json(text);
  } catch (const Error& error) {
    throw Error(ErrorKind::kInput, kDamaged, where + ": " + error.what());
  }
}

// A number, or the first of a list of numbers (eos_token_id can be either).
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

bool has_text_config(const JsonObject& json) {
  return json.has("text_config") && json.value("text_config").is_object();
}

// A model of several parts has the sizes of its language model in an object of their own; older
// files of Qwen's have them outside.
std::string advice_for_wrapper(const JsonObject& json) {
  if (!has_text_config(json)) return "";
  const std::string type = json.object("text_config").text_or("model_type", "");
  if (find_family_of_type(type) == nullptr)
    return type.empty() ? "" : fmt::format(", nor is its language model '{}'", type);
  return fmt::format(
      ". It wraps a language model that is (text_config, model_type '{}'): save that alone, with a "
      "config.json of its own, and give its folder",
      type);
}

constexpr std::string_view kLayerTypes[] = {"full_attention", "sliding_attention",
                                            "linear_attention"};

// Keys of parts that no family here has.
struct UnknownPart {
  const char* key;
  std::string_view name;
};
constexpr UnknownPart kUnknownParts[] = {
    {"kv_lora_rank", "attention with latent keys and values"},
    {"index_topk", "attention to chosen tokens"},
    {"ssm_state_size", "state-space layers"},
    {"mamba_d_state", "state-space layers"},
    {"attention_chunk_size", "attention in chunks"},
    {"altup_num_inputs", "hidden states in several streams"},
};

bool is_layer_type(const std::string& type) {
  return std::find(std::begin(kLayerTypes), std::end(kLayerTypes), type) != std::end(kLayerTypes);
}

bool is_scoring_function(const std::string& name) { return name == "softmax" || name == "sigmoid"; }

void add_if_unknown(const io::Json& value, bool (*is_known)(const std::string&),
                    std::string_view what, std::vector<std::string>& found) {
  if (!value.is_string() || is_known(value.string())) return;
  std::string text = fmt::format("{} '{}'", what, value.string());
  if (std::find(found.begin(), found.end(), text) == found.end()) found.push_back(std::move(text));
}

// Parts of a refused class that no family has, as far as its keys tell; "" if there are none.
std::string unknown_parts(const JsonObject& all) {
  const JsonObject json = has_text_config(all) ? all.object("text_config") : all;
  std::vector<std::string> found;
  for (const UnknownPart& part : kUnknownParts)
    if (json.has(part.key)) found.push_back(fmt::format("{} ({})", part.name, part.key));
  if (json.has("layer_types") && json.value("layer_types").is_array())
    for (const io::Json& type : json.value("layer_types").elements())
      add_if_unknown(type, is_layer_type, "layers of type", found);
  if (json.has("scoring_func"))
    add_if_unknown(json.value("scoring_func"), is_scoring_function, "routing by", found);
  for (const char* rope : {"rope_scaling", "rope_parameters"}) {
    if (!json.has(rope) || !json.value(rope).is_object()) continue;
    for (const char* type : {"rope_type", "type"})
      if (const io::Json* value = json.value(rope).find(type))
        add_if_unknown(*value, is_rope_type, "rotary positions of type", found);
  }
  if (found.empty()) return "";
  return fmt::format(". Unknown of it: {}", fmt::join(found, ", "));
}

// transformers chooses the class by model_type, llama.cpp's converter by architectures.
void check_type(const JsonObject& json, const std::string& architecture, std::string_view type) {
  const std::string given = json.text_or("model_type", "");
  if (given.empty() || given == type) return;
  json.refuse("model_type",
              fmt::format("is '{}', but architectures names {}, whose model_type is '{}'. Some "
                          "loaders follow the one, some the other; make them agree",
                          given, architecture, type));
}

// Finds the language model's class, which in a wrapper is that of its text_config.
void read_class(const JsonObject& json, ModelConfig& config) {
  const std::string named = architecture_of(json);
  const FamilyInfo* family = find_family(named);
  const WrapperInfo* wrapper = find_wrapper(named);
  if (family == nullptr && wrapper == nullptr)
    refuse_architecture(named, advice_for_wrapper(json) + unknown_parts(json));
  check_type(json, named, family != nullptr ? family->model_type : wrapper->model_type);
  if (wrapper != nullptr) {
    config.wrapper = named;
    config.names.model = "model.language_model";
    std::string type(wrapper->text_type);
    if (has_text_config(json)) type = json.object("text_config").text_or("model_type", type);
    family = find_family_of_type(type);
    if (family == nullptr)
      refuse_architecture(named,
                          fmt::format(" with the language model '{}'", type) + unknown_parts(json));
  }
  config.architecture = family->architecture;
  config.model_type = family->model_type;
}

// Sizes that a text_config may leave out, because its class has them by default.
struct DefaultSizes {
  std::string_view architecture;
  Index heads, kv_heads, vocab_size, max_positions;
};
constexpr DefaultSizes kDefaultSizes[] = {{"Gemma3ForCausalLM", 8, 4, 262'208, 131'072}};

void read_sizes(const JsonObject& json, ModelConfig& config) {
  DefaultSizes absent{};
  for (const DefaultSizes& sizes : kDefaultSizes)
    if (!config.wrapper.empty() && sizes.architecture == config.architecture) absent = sizes;
  const auto size = [&](const char* key, Index otherwise) {
    return otherwise > 0 ? json.size_or(key, kLargestSize, otherwise)
                         : json.size(key, kLargestSize);
  };
  config.hidden_size = json.size("hidden_size", kLargestSize);
  // Qwen 3.5 has no dense layers among those with experts, nor their size.
  const bool only_experts = config.architecture == "Qwen3_5MoeForCausalLM";
  config.intermediate_size =
      json.size(only_experts ? "moe_intermediate_size" : "intermediate_size", kLargestSize);
  config.num_layers = json.size("num_hidden_layers", kMostLayers);
  config.num_heads = size("num_attention_heads", absent.heads);
  config.num_kv_heads = json.size_or("num_key_value_heads", kLargestSize,
                                     absent.kv_heads > 0 ? absent.kv_heads : config.num_heads);
  config.vocab_size = size("vocab_size", absent.vocab_size);
  config.max_positions = size("max_position_embeddings", absent.max_positions);
  if (config.num_heads % config.num_kv_heads != 0)
    json.refuse("num_key_value_heads", fmt::format("is {} and does not divide the {} heads of "
                                                   "num_attention_heads",
                                                   config.num_kv_heads, config.num_heads));
}

void read_head_dim(const JsonObject& json, ModelConfig& config) {
  const Index absent = defaults_of(config.architecture).head_dim;
  if (!json.has("head_dim") && absent == 0 && config.hidden_size % config.num_heads != 0)
    json.refuse("head_dim", fmt::format("is missing, and hidden_size {} is not a multiple of "
                                        "num_attention_heads {}",
                                        config.hidden_size, config.num_heads));
  config.head_dim = json.size_or("head_dim", kLargestHead,
                                 absent > 0 ? absent : config.hidden_size / config.num_heads);
  if (config.head_dim % 2 != 0 || config.head_dim > kLargestHead)
    json.refuse("head_dim", fmt::format("is {}; rotary positions need an even number up to {}",
                                        config.head_dim, kLargestHead));
}

// Gemma 1 writes "gelu" but means the tanh form. Gemma 2 and 3 read hidden_activation and not
// hidden_act, the other classes the other way round.
void read_activation(const JsonObject& json, ModelConfig& config) {
  const bool gemma = is_gemma(config);
  const bool first_gemma = config.architecture == "GemmaForCausalLM";
  const char* const key = gemma && !first_gemma ? "hidden_activation" : "hidden_act";
  config.hidden_act = json.text_or(key, gemma ? "gelu_pytorch_tanh" : "silu");
  if (first_gemma && config.hidden_act == "gelu") config.hidden_act = "gelu_pytorch_tanh";
  if (config.hidden_act != "silu" && config.hidden_act != "gelu_pytorch_tanh")
    json.refuse(
        key, fmt::format("is '{}'; supported are silu and gelu_pytorch_tanh", config.hidden_act));
  const char* const other = gemma && !first_gemma ? "hidden_act" : "hidden_activation";
  if (gemma && json.has(other) && json.value(other) != "gelu")
    remark(config, key, config.hidden_act, other, json.value(other));
}

// Sliding windows.

using Windows = std::vector<Index>;

Windows everywhere(Index window, Index layers) {
  return Windows(static_cast<std::size_t>(layers), window);
}

// `window` for the layers that layer_types calls sliding, 0 for the others.
Windows listed(const JsonObject& json, Index window, Index layers) {
  Windows windows = everywhere(0, layers);
  const io::Json& types = json.value("layer_types");
  if (!types.is_array() || types.size() != windows.size())
    json.refuse("layer_types", fmt::format("must list {} layers, as num_hidden_layers", layers));
  for (std::size_t i = 0; i < windows.size(); ++i) {
    if (types.at(i) == "sliding_attention")
      windows[i] = window;
    else if (!(types.at(i) == "full_attention"))
      json.refuse("layer_types", fmt::format("has {}; supported are \"full_attention\" and "
                                             "\"sliding_attention\"",
                                             types.at(i).dump()));
    if (types.at(i) == "sliding_attention" && window == 0)
      json.refuse("layer_types", "names sliding layers, but there is no sliding_window");
  }
  return windows;
}

// An absent window is the class's; null means no window.
Index window_of(const JsonObject& json, Index absent = 4096) {
  return json.size_or("sliding_window", kLargestSize, json.is_null("sliding_window") ? 0 : absent);
}

// Mistral: every layer, or those that layer_types names.
Windows mistral_windows(const JsonObject& json, Index layers) {
  if (json.has("layer_types")) return listed(json, window_of(json), layers);
  return everywhere(window_of(json), layers);
}

// Qwen: only with use_sliding_window, in the layers that layer_types names; before that key
// existed, in layers from max_window_layers on.
Windows qwen_windows(const JsonObject& json, Index layers) {
  const Index window = json.flag_or("use_sliding_window", false) ? window_of(json) : 0;
  if (json.has("layer_types")) return listed(json, window, layers);
  if (window == 0) return everywhere(0, layers);
  Windows windows = everywhere(0, layers);
  const Index first = json.has("max_window_layers") && json.value("max_window_layers") == 0
                          ? 0
                          : json.size_or("max_window_layers", kLargestSize, 28);
  for (Index i = first; i < layers; ++i) windows[static_cast<std::size_t>(i)] = window;
  return windows;
}

// Gemma 2 and 3, OLMo 3, EXAONE 4 and gpt-oss without layer_types: one full layer after every
// `pattern` - 1 sliding ones.
Windows patterned_windows(const JsonObject& json, Index layers, Index pattern,
                          Index absent = 4096) {
  const Index window = window_of(json, absent);
  if (json.has("layer_types")) return listed(json, window, layers);
  Windows windows = everywhere(window, layers);
  for (Index i = pattern - 1; i < layers; i += pattern) windows[static_cast<std::size_t>(i)] = 0;
  return windows;
}

// As Gemma 3; the last layer has no window whatever is listed.
Windows gemma4_windows(const JsonObject& json, Index layers) {
  const Index window = json.size_or("sliding_window", kLargestSize, 512);
  Windows windows = everywhere(window, layers);
  if (json.has("layer_types")) windows = listed(json, window, layers);
  for (Index i = 5; i < layers && !json.has("layer_types"); i += 6)
    windows[static_cast<std::size_t>(i)] = 0;
  windows.back() = 0;
  return windows;
}

// layer_types says the same in full.
void remark_pattern(const JsonObject& json, ModelConfig& config) {
  if (config.architecture != "Gemma3ForCausalLM" || !json.has("layer_types") ||
      !json.has("sliding_window_pattern"))
    return;
  const Index pattern = json.size("sliding_window_pattern", kMostLayers);
  for (std::size_t i = 0; i < config.window_of_layer.size(); ++i)
    if ((config.window_of_layer[i] == 0) != ((static_cast<Index>(i) + 1) % pattern == 0))
      return remark(config, "layer_types", json.value("layer_types"), "sliding_window_pattern",
                    json.value("sliding_window_pattern"));
}

std::vector<Index> read_windows(const JsonObject& json, const ModelConfig& config) {
  const Index layers = config.num_layers;
  const std::string& architecture = config.architecture;
  if (architecture.starts_with("Mistral")) return mistral_windows(json, layers);
  if (has_delta_nets(config)) return everywhere(0, layers);
  if (architecture.starts_with("Qwen")) return qwen_windows(json, layers);
  if (architecture == "Gemma2ForCausalLM") return patterned_windows(json, layers, 2);
  if (architecture == "Olmo3ForCausalLM") return patterned_windows(json, layers, 4);
  if (architecture == "GptOssForCausalLM") return patterned_windows(json, layers, 2, 128);
  const bool listed_pattern = json.has("layer_types");  // EXAONE 4 also spells its pattern "LLLG"
  if (architecture == "Exaone4ForCausalLM")
    return patterned_windows(
        json, layers, listed_pattern ? 4 : json.size_or("sliding_window_pattern", kMostLayers, 4));
  if (is_gemma4(config)) return gemma4_windows(json, layers);
  if (architecture == "Gemma3ForCausalLM")
    return patterned_windows(json, layers, json.size_or("sliding_window_pattern", kMostLayers, 6));
  if (architecture == "SmolLM3ForCausalLM" && json.flag_or("use_sliding_window", false))
    return listed(json, json.size("sliding_window", kLargestSize), layers);
  if (architecture.starts_with("Mixtral") || architecture.starts_with("Phi3") ||
      architecture.starts_with("Ministral3"))
    return everywhere(json.size_or("sliding_window", kLargestSize, 0), layers);
  return everywhere(0, layers);
}

// Delta nets.

// Those that layer_types calls linear; without it, all but every full_attention_interval-th.
std::vector<bool> read_delta_net_layers(const JsonObject& json, Index layers) {
  std::vector<bool> linear(static_cast<std::size_t>(layers), true);
  const char* const key = "layer_types";
  if (!json.has(key)) {
    const auto interval =
        static_cast<std::size_t>(json.size_or("full_attention_interval", kMostLayers, 4));
    for (std::size_t i = interval - 1; i < linear.size(); i += interval) linear[i] = false;
    return linear;
  }
  const io::Json& types = json.value(key);
  if (!types.is_array() || types.size() != linear.size())
    json.refuse(key, fmt::format("must list {} layers, as num_hidden_layers", layers));
  for (std::size_t i = 0; i < linear.size(); ++i) {
    linear[i] = types.at(i) == "linear_attention";
    if (!linear[i] && types.at(i) != "full_attention")
      json.refuse(key, fmt::format("has {}; supported are \"full_attention\" and "
                                   "\"linear_attention\"",
                                   types.at(i).dump()));
  }
  return linear;
}

// An interval that says something else than the list.
void remark_interval(const JsonObject& json, ModelConfig& config) {
  const char* const key = "full_attention_interval";
  if (!json.has("layer_types") || !json.has(key)) return;
  const auto interval = static_cast<std::size_t>(json.size(key, kMostLayers));
  for (std::size_t i = 0; i < config.delta_net_layers.size(); ++i)
    if (config.delta_net_layers[i] == ((i + 1) % interval == 0))
      return remark(config, "layer_types", json.value("layer_types"), key, json.value(key));
}

void read_delta_nets(const JsonObject& json, ModelConfig& config) {
  config.norm_plus_one = true;
  if (config.rope_sections.empty() && config.architecture.starts_with("Qwen3_5"))
    config.rope_sections = {11, 11, 10, 0};
  config.delta_net_layers = read_delta_net_layers(json, config.num_layers);
  remark_interval(json, config);
  DeltaNetSizes& sizes = config.delta_net;
  sizes.key_heads = json.size_or("linear_num_key_heads", kLargestSize, 16);
  sizes.value_heads = json.size_or("linear_num_value_heads", kLargestSize, 32);
  sizes.key_dim = json.size_or("linear_key_head_dim", kLargestHead, 128);
  sizes.value_dim = json.size_or("linear_value_head_dim", kLargestHead, 128);
  sizes.kernel = json.size_or("linear_conv_kernel_dim", kLargestKernel, 4);
  if (sizes.value_heads % sizes.key_heads != 0)
    json.refuse("linear_num_value_heads",
                fmt::format("is {} and is not a multiple of the {} of linear_num_key_heads",
                            sizes.value_heads, sizes.key_heads));
}

// Gemma.

Index count_or_zero(const JsonObject& json, const char* key) {
  return !json.has(key) || json.value(key) == 0 ? 0 : json.size(key, kLargestSize);
}

// An absent cap has the class's default; null means no cap.
double cap_of(const JsonObject& json, const char* key, double absent) {
  return json.is_null(key) ? 0.0 : json.positive_or(key, absent);
}

// The embedding's scale is the exact root. transformers rounds it to the embedding's dtype (45.25
// for a hidden size of 2048 in bf16; the root is 45.2548). The RMSNorm at the start of each half
// removes a common factor, so the difference only matters where the half's output is added.
void read_gemma(const JsonObject& json, ModelConfig& config) {
  config.norm_plus_one = true;
  config.embedding_scale = std::sqrt(static_cast<double>(config.hidden_size));
  if (config.architecture == "GemmaForCausalLM") return;
  config.query_scale = 1.0 / std::sqrt(json.positive_or("query_pre_attn_scalar", 256.0));
  const bool second = config.architecture == "Gemma2ForCausalLM";
  config.attention_softcap = cap_of(json, "attn_logit_softcapping", second ? 50.0 : 0.0);
  config.logit_softcap = cap_of(json, "final_logit_softcapping", second ? 30.0 : 0.0);
}

// Heads of the layers without a window. transformers 5 lists what differs layer by layer; the
// published files have one number for all of them.
void read_full_heads(const JsonObject& json, ModelConfig& config) {
  config.full_values_are_keys = json.flag_or("attention_k_eq_v", false);
  const char* const key = "per_layer_config";
  if (!json.has(key)) {
    config.full_head_dim = json.size_or("global_head_dim", kLargestHead, 512);
    if (config.full_values_are_keys)
      config.full_kv_heads =
          json.size_or("num_global_key_value_heads", kLargestSize, config.num_kv_heads);
    return;
  }
  bool first = true;
  for (Index layer = 0; layer < config.num_layers; ++layer) {
    const std::string name = std::to_string(layer);
    const JsonObject all = json.object(key);
    if (config.has_window(layer)) {
      if (all.has(name.c_str()))
        json.refuse(key, fmt::format("names layer {}, which has a window; calque reads files in "
                                     "which the layers without one differ",
                                     layer));
      continue;
    }
    Index head_dim = config.head_dim, kv_heads = config.num_kv_heads;
    if (all.has(name.c_str())) {
      const JsonObject own = all.object(name.c_str());
      head_dim = own.size_or("head_dim", kLargestHead, head_dim);
      kv_heads = own.size_or("num_key_value_heads", kLargestSize, kv_heads);
    }
    if (!first && (head_dim != config.full_head_dim || kv_heads != config.full_kv_heads))
      json.refuse(key, fmt::format("gives layer {} other heads than the layers without a window "
                                   "before it",
                                   layer));
    config.full_head_dim = head_dim;
    config.full_kv_heads = kv_heads;
    first = false;
  }
}

void check_full_heads(const JsonObject& json, const ModelConfig& config) {
  const Index kv_heads = config.full_kv_heads > 0 ? config.full_kv_heads : config.num_kv_heads;
  if (config.num_heads % kv_heads != 0)
    json.refuse("num_global_key_value_heads",
                fmt::format("is {} and does not divide the {} heads of num_attention_heads",
                            kv_heads, config.num_heads));
  if (config.full_head_dim % 2 != 0)
    json.refuse("global_head_dim",
                fmt::format("is {}; rotary positions need an even number", config.full_head_dim));
}

// Both kinds of attention among the sharing layers need a layer before them that makes keys.
void read_shared_layers(const JsonObject& json, ModelConfig& config) {
  const char* const key = "num_kv_shared_layers";
  config.shared_kv_layers = count_or_zero(json, key);
  if (config.shared_kv_layers == 0) return;
  const Index first = config.num_layers - config.shared_kv_layers;
  for (Index layer = first; layer < config.num_layers; ++layer) {
    bool made = false;
    for (Index earlier = 0; earlier < first; ++earlier)
      made = made || config.has_window(earlier) == config.has_window(layer);
    if (!made)
      json.refuse(key, fmt::format("is {} of {} layers; layer {} has no layer of its kind before "
                                   "layer {} whose keys and values it could use",
                                   config.shared_kv_layers, config.num_layers, layer,
                                   std::max<Index>(first, 0)));
  }
  if (json.flag_or("use_double_wide_mlp", false))
    config.shared_kv_intermediate_size = 2 * config.intermediate_size;
}

void read_gemma4(const JsonObject& json, ModelConfig& config) {
  config.embedding_scale = std::sqrt(static_cast<double>(config.hidden_size));
  config.query_scale = 1.0;
  config.logit_softcap = cap_of(json, "final_logit_softcapping", 0.0);
  read_full_heads(json, config);
  check_full_heads(json, config);
  if (config.full_kv_heads == config.num_kv_heads) config.full_kv_heads = 0;
  read_shared_layers(json, config);
  const char* const key = "hidden_size_per_layer_input";
  if (config.architecture == "Gemma4ForCausalLM" && !json.is_null(key))
    config.layer_embedding_size = json.has(key) ? count_or_zero(json, key) : 256;
  if (config.layer_embedding_size > 0)
    if (const Index tokens = json.size_or("vocab_size_per_layer_input", kLargestSize, 262'144);
        tokens != config.vocab_size)
      json.refuse("vocab_size_per_layer_input",
                  fmt::format("is {}; calque reads models in which it is vocab_size {}", tokens,
                              config.vocab_size));
  if (json.text_or("use_bidirectional_attention", "") == "all")
    json.refuse("use_bidirectional_attention",
                "is \"all\"; calque reads models whose tokens see those before them");
}

// Wrappers.

void read_vision(const JsonObject& outer, ModelConfig& config) {
  if (!outer.has("vision_config") || !outer.value("vision_config").is_object()) return;
  const io::Json* layers = outer.value("vision_config").find("deepstack_visual_indexes");
  if (layers != nullptr && layers->is_array())
    config.deepstack_layers = static_cast<Index>(layers->size());
}

// The text_config of a wrapper, else the whole.
JsonObject text_of(const JsonObject& outer, const ModelConfig& config) {
  return config.wrapper.empty() || !has_text_config(outer) ? outer : outer.object("text_config");
}

const JsonObject& with_key(const JsonObject& json, const JsonObject& outer, const char* key) {
  return json.has(key) ? json : outer;
}

// The types of weights and of the ids that mark texts may stand outside of text_config, too.
void read_outer(const JsonObject& json, const JsonObject& outer, ModelConfig& config) {
  const bool inside = json.has("dtype") || json.has("torch_dtype");
  const JsonObject& typed = inside ? json : outer;
  config.dtype = typed.text_or("dtype", typed.text_or("torch_dtype", ""));
  remark_if_both(typed, config, "dtype", "torch_dtype");
  config.bos_token_id = first_id(with_key(json, outer, "bos_token_id"), "bos_token_id");
  config.eos_token_id = first_id(with_key(json, outer, "eos_token_id"), "eos_token_id");
}

}  // namespace

bool is_gemma4(const ModelConfig& config) { return config.architecture.starts_with("Gemma4"); }

bool has_delta_nets(const ModelConfig& config) {
  return config.architecture.starts_with("Qwen3Next") || config.architecture.starts_with("Qwen3_5");
}

const ClassDefaults& defaults_of(std::string_view architecture) {
  static constexpr ClassDefaults kClasses[] = {
      {.class_name = "Ernie4_5_Moe", .theta = 5e5, .rms_norm_eps = 1e-5, .tied = true},
      {.class_name = "Exaone4", .rms_norm_eps = 1e-5},
      {.class_name = "Gemma3", .theta = 1e6, .head_dim = 256, .tied = true},
      {.class_name = "Gemma4", .theta = 1e6, .head_dim = 256, .tied = true},
      {.class_name = "Gemma", .head_dim = 256, .tied = true},
      {.class_name = "Glm4Moe", .rms_norm_eps = 1e-5, .turned_share = 0.5, .turns_any_share = true},
      {.class_name = "GptOss", .theta = 15e4, .rms_norm_eps = 1e-5, .head_dim = 64},
      {.class_name = "HYV3", .theta = 11'158'840.0, .rms_norm_eps = 1e-5, .head_dim = 128},
      {.class_name = "MiniMaxM2", .theta = 5e6, .head_dim = 128, .turns_any_share = true},
      {.class_name = "Ministral3", .theta = 1e6},
      {.class_name = "Mixtral", .theta = 1e6},
      {.class_name = "Olmo3", .theta = 5e5, .rms_norm_eps = 1e-5},
      {.class_name = "Phi3", .turns_any_share = true},
      {.class_name = "Qwen3Next", .turned_share = 0.25, .turns_any_share = true},
      {.class_name = "Qwen3_5", .turned_share = 0.25, .turns_any_share = true},
      {.class_name = "SmolLM3", .theta = 2e6, .tied = true},
  };
  static constexpr ClassDefaults kOthers;
  for (const ClassDefaults& defaults : kClasses)
    if (architecture.starts_with(defaults.class_name)) return defaults;
  return kOthers;
}

void remark(ModelConfig& config, std::string_view used, const io::Json& value,
            std::string_view other, const io::Json& ignored) {
  if (value == ignored) return;
  config.remarks.push_back(
      fmt::format("config.json: {} ({}) is used, as in transformers, and {} "
                  "({}) is not",
                  used, value.dump(), other, ignored.dump()));
}

void remark_if_both(const JsonObject& json, ModelConfig& config, const char* used,
                    const char* other) {
  if (json.has(used) && json.has(other))
    remark(config, used, json.value(used), other, json.value(other));
}

bool ties_head(const io::Json& config_json) {
  constexpr const char* kKey = "tie_word_embeddings";
  if (const io::Json* tied = config_json.find(kKey); tied != nullptr && tied->is_bool())
    return tied->boolean();
  const io::Json* text = config_json.find("text_config");
  if (text != nullptr && text->is_object())
    if (const io::Json* tied = text->find(kKey); tied != nullptr && tied->is_bool())
      return tied->boolean();
  const io::Json* names = config_json.find("architectures");
  if (names == nullptr || !names->is_array() || names->empty() || !names->at(0).is_string())
    return false;
  const std::string& architecture = names->at(0).string();
  if (const WrapperInfo* wrapper = find_wrapper(architecture)) return wrapper->ties_head;
  return defaults_of(architecture).tied;
}

Index first_expert_layer(const ModelConfig& config) {
  const std::vector<bool>& layers = config.experts_in_layer;
  return std::find(layers.begin(), layers.end(), true) - layers.begin();
}

Index expert_layer_step(const ModelConfig& config) {
  const Index first = first_expert_layer(config);
  const auto fits = [&](Index step) {
    for (Index i = first; i < config.num_layers; ++i)
      if (config.experts_in_layer[static_cast<std::size_t>(i)] != ((i + 1) % step == 0))
        return false;
    return true;
  };
  for (Index step = 1; step <= config.num_layers; ++step)
    if (fits(step)) return step;
  return 0;
}

ModelConfig parse_config(const std::string& json_text, const std::string& where) {
  const io::Json raw = parsed(json_text, where);
  const JsonObject outer(raw, where, kDamaged);
  outer.expect_object();
  ModelConfig config;
  read_class(outer, config);
  const JsonObject json = text_of(outer, config);
  read_vision(outer, config);
  read_sizes(json, config);
  read_head_dim(json, config);
  config.rms_norm_eps =
      json.positive_or("rms_norm_eps", defaults_of(config.architecture).rms_norm_eps);
  read_rope(json, config);
  config.window_of_layer = read_windows(json, config);
  read_turned_layers(json, config);
  config.tie_word_embeddings = outer.flag_or("tie_word_embeddings", ties_head(raw));
  config.attention_bias =
      json.flag_or("attention_bias", config.architecture == "SeedOssForCausalLM" ||
                                         config.architecture == "GptOssForCausalLM");
  config.attention_out_bias = json.flag_or("attention_out_bias", false);
  config.mlp_bias = json.flag_or("mlp_bias", false);
  read_activation(json, config);
  if (is_gemma4(config))
    read_gemma4(json, config);
  else if (is_gemma(config))
    read_gemma(json, config);
  if (has_delta_nets(config)) read_delta_nets(json, config);
  read_experts(json, config);
  read_outer(json, outer, config);
  remark_pattern(json, config);
  return config;
}

ModelConfig load_config(const std::filesystem::path& folder) {
  const std::filesystem::path path = folder / "config.json";
  return parse_config(io::read_file(path), path.string());
}

}  // namespace calque::model
