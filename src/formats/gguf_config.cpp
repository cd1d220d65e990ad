#include "formats/gguf_config.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numbers>
#include <optional>

#include "calque/core/error.h"
#include "formats/gguf_architectures.h"

namespace calque::formats {
namespace {

using Scaling = model::RopeSpec::Scaling;

constexpr std::string_view kRopeFreqs = "rope_freqs.weight";
constexpr std::string_view kRopeFactorsLong = "rope_factors_long.weight";
constexpr std::string_view kRopeFactorsShort = "rope_factors_short.weight";

// Larger than any real model's sizes; products of two stay far from overflow.
constexpr std::int64_t kMostGgufSize = std::int64_t{1} << 28;

// Reads the keys that begin with the architecture's name. Values out of bounds are Error(kInput)
// with file, key and value.
class GgufKeyReader {
 public:
  GgufKeyReader(const io::GgufFile& file, std::string_view arch)
      : file_(file), prefix_(std::string(arch) + ".") {}

  const io::GgufFile& file() const { return file_; }
  std::optional<Index> find_count(const std::string& key) const;  // 1 or more
  Index count(const std::string& key) const;
  Index count_or_zero(const std::string& key) const;  // 0 if absent
  // The shortest decimal that gives the stored fp32: 1e-05 rather than 9.99999974e-06.
  std::optional<double> find_real(const std::string& key) const;  // above 0
  std::vector<Index> counts(const std::string& key) const;        // a list of i32; empty if absent
  // A count for each of the layers: the same for all, or those of a list.
  std::optional<std::vector<Index>> by_layer(const std::string& key, Index layers) const;
  std::vector<bool> flags(const std::string& key) const;  // a list; empty if absent
  std::optional<std::string> find_text(const std::string& key) const {
    return file_.string(prefix_ + key);
  }
  std::optional<bool> find_flag(const std::string& key) const {
    return file_.boolean(prefix_ + key);
  }

 private:
  const io::GgufFile& file_;
  std::string prefix_;
};

std::optional<Index> GgufKeyReader::find_count(const std::string& key) const {
  const std::optional<std::int64_t> value = file_.integer(prefix_ + key);
  if (value && (*value < 1 || *value > kMostGgufSize))
    refuse_gguf(file_, fmt::format("key '{}{}' is {}, expected 1 to {}", prefix_, key, *value,
                                   kMostGgufSize));
  return value;
}

Index GgufKeyReader::count(const std::string& key) const {
  const std::optional<Index> value = find_count(key);
  if (!value) refuse_gguf(file_, fmt::format("key '{}{}' is missing", prefix_, key));
  return *value;
}

Index GgufKeyReader::count_or_zero(const std::string& key) const {
  if (file_.integer(prefix_ + key).value_or(0) == 0) return 0;
  return count(key);
}

std::vector<Index> GgufKeyReader::counts(const std::string& key) const {
  const io::GgufValue* value = file_.find(prefix_ + key);
  const auto* array = value == nullptr ? nullptr : std::get_if<io::GgufValue::Array>(&value->value);
  if (array == nullptr) return {};
  const auto* stored = std::get_if<std::vector<std::int32_t>>(array);
  if (stored == nullptr)
    refuse_gguf(file_, fmt::format("key '{}{}' is no list of i32", prefix_, key));
  return {stored->begin(), stored->end()};
}

std::optional<std::vector<Index>> GgufKeyReader::by_layer(const std::string& key,
                                                          Index layers) const {
  const std::vector<Index> list = counts(key);
  if (list.empty()) {
    const std::optional<Index> all = find_count(key);
    if (!all) return std::nullopt;
    return std::vector<Index>(static_cast<std::size_t>(layers), *all);
  }
  if (static_cast<Index>(list.size()) != layers)
    refuse_gguf(file_, fmt::format("key '{}{}' lists {} numbers for {} layers", prefix_, key,
                                   list.size(), layers));
  for (const Index value : list)
    if (value < 1 || value > kMostGgufSize)
      refuse_gguf(file_, fmt::format("key '{}{}' contains {}, expected 1 to {}", prefix_, key,
                                     value, kMostGgufSize));
  return list;
}

std::vector<bool> GgufKeyReader::flags(const std::string& key) const {
  const io::GgufValue* value = file_.find(prefix_ + key);
  const auto* array = value == nullptr ? nullptr : std::get_if<io::GgufValue::Array>(&value->value);
  if (array == nullptr) return {};
  const auto* stored = std::get_if<std::vector<bool>>(array);
  if (stored == nullptr)
    refuse_gguf(file_, fmt::format("key '{}{}' is no list of booleans", prefix_, key));
  return *stored;
}

std::optional<double> GgufKeyReader::find_real(const std::string& key) const {
  const std::optional<double> value = file_.real(prefix_ + key);
  if (!value) return std::nullopt;
  if (!std::isfinite(*value) || *value <= 0)
    refuse_gguf(file_, fmt::format("key '{}{}' is {}", prefix_, key, *value));
  const auto stored = static_cast<float>(*value);
  return static_cast<double>(stored) == *value ? std::stod(fmt::format("{}", stored)) : *value;
}

Index vocab_size_of(const io::GgufFile& file) {
  const io::GgufTensor* embedding = file.find_tensor("token_embd.weight");
  if (embedding == nullptr || embedding->ne.size() != 2)
    refuse_gguf(file, "tensor 'token_embd.weight' is missing or not a matrix");
  return static_cast<Index>(embedding->ne[1]);
}

// Names in the file end in .weight and .bias; a layer's biases are optional for "llama".
bool has_tensor(const io::GgufFile& file, std::string_view name) {
  return file.find_tensor(name) != nullptr;
}

void set_sizes(const io::GgufFile& file, const GgufKeyReader& keys, model::ModelConfig& config) {
  config.hidden_size = keys.count("embedding_length");
  config.num_layers = keys.count("block_count");
  // A block has at least nine tensors. A larger count of layers is wrong and would cost memory.
  if (static_cast<std::uint64_t>(config.num_layers) > file.tensors().size())
    refuse_gguf(file, fmt::format("key 'block_count' is {}, but the file has {} tensors",
                                  config.num_layers, file.tensors().size()));
  const auto widths = keys.by_layer("feed_forward_length", config.num_layers);
  config.intermediate_size = widths ? widths->front() : keys.count("feed_forward_length");
  config.num_heads = keys.count("attention.head_count");
  const auto kv_heads = keys.by_layer("attention.head_count_kv", config.num_layers);
  config.num_kv_heads = kv_heads ? kv_heads->front() : config.num_heads;
  config.head_dim =
      keys.find_count("attention.key_length").value_or(config.hidden_size / config.num_heads);
  config.max_positions = keys.count("context_length");
  config.vocab_size = vocab_size_of(file);
  config.window_of_layer.assign(static_cast<std::size_t>(config.num_layers), 0);
  if (config.num_heads % config.num_kv_heads != 0 || config.head_dim < 2 || config.head_dim % 2)
    refuse_gguf(file, fmt::format("{} heads of {} and {} key/value heads do not fit together",
                                  config.num_heads, config.head_dim, config.num_kv_heads));
}

// One fp32 number per pair of a head, finite and above 0.
std::vector<float> divisors_of(const io::GgufFile& file, const io::GgufTensor& tensor,
                               Index head_dim) {
  const auto pairs = static_cast<std::uint64_t>(head_dim / 2);
  if (tensor.type != ggml::Type::kF32 || tensor.element_count() != pairs)
    refuse_gguf(file, fmt::format("tensor '{}' must hold {} F32 values", tensor.name, pairs));
  std::vector<float> divisors(pairs);
  std::memcpy(divisors.data(), tensor.bytes.data(), tensor.bytes.size());
  for (const float divisor : divisors)
    if (!(divisor > 0 && std::isfinite(divisor)))
      refuse_gguf(file, fmt::format("tensor '{}' holds a divisor of {}", tensor.name, divisor));
  return divisors;
}

model::RopeSpec llama3_rope(const io::GgufFile& file, const io::GgufTensor& tensor,
                            const model::ModelConfig& config) {
  const std::vector<float> stored = divisors_of(file, tensor, config.head_dim);
  model::RopeSpec rope = config.rope;
  rope.scaling = Scaling::kLlama3;
  rope.factor = *std::max_element(stored.begin(), stored.end());
  if (rope.factor < 1.0)
    refuse_gguf(file, fmt::format("tensor '{}' holds a divisor of {}", kRopeFreqs, rope.factor));
  // 8192 first: it is every published model's value.
  std::vector<Index> candidates = {8192};
  for (Index positions = 16; positions <= Index{1} << 24; positions *= 2)
    candidates.push_back(positions);
  for (const Index positions : candidates) {
    rope.original_max_positions = positions;
    const std::vector<float> expected = llama3_divisors(rope, config.head_dim);
    const auto agree = [](float a, float b) { return std::abs(a - b) <= 1e-5f * std::abs(b); };
    if (std::equal(expected.begin(), expected.end(), stored.begin(), agree)) return rope;
  }
  refuse_gguf(file, fmt::format("tensor '{}' does not match any llama3 scaling that calque knows",
                                kRopeFreqs));
}

model::RopeSpec long_rope(const GgufKeyReader& keys, const model::ModelConfig& config) {
  const auto factors = [&](std::string_view name) -> std::vector<double> {
    const io::GgufTensor* tensor = keys.file().find_tensor(name);
    if (tensor == nullptr) refuse_gguf(keys.file(), fmt::format("tensor '{}' is missing", name));
    const std::vector<float> stored =
        divisors_of(keys.file(), *tensor, config.rope.turned(config.head_dim));
    return {stored.begin(), stored.end()};
  };
  model::RopeSpec rope = config.rope;
  rope.scaling = Scaling::kLongRope;
  rope.short_factors = factors(kRopeFactorsShort);
  rope.long_factors = factors(kRopeFactorsLong);
  rope.original_max_positions =
      keys.find_count("rope.scaling.original_context_length").value_or(config.max_positions);
  rope.attention_factor = keys.find_real("rope.scaling.attn_factor").value_or(1.0);
  return rope;
}

// A log multiplier divides the factor that loaders take (gguf_metadata.cpp).
model::RopeSpec yarn_rope(const std::string& arch, const GgufKeyReader& keys,
                          const model::ModelConfig& config) {
  model::RopeSpec rope = config.rope;
  rope.scaling = Scaling::kYarn;
  rope.factor = keys.find_real("rope.scaling.factor").value_or(1.0);
  rope.original_max_positions =
      keys.find_count("rope.scaling.original_context_length").value_or(config.max_positions);
  rope.beta_fast = keys.find_real("rope.scaling.yarn_beta_fast").value_or(rope.beta_fast);
  rope.beta_slow = keys.find_real("rope.scaling.yarn_beta_slow").value_or(rope.beta_slow);
  rope.attention_factor = gguf_yarn_factor(rope);
  if (const auto multiplier = keys.find_real("rope.scaling.yarn_log_multiplier"))
    rope.attention_factor /= 1 + *multiplier * (gguf_yarn_factor(rope) - 1);
  if (arch == "gpt-oss") rope.truncate = false;  // no key says so; every model's is
  if (arch == "mistral3")
    rope.query_growth = keys.find_real("attention.temperature_scale").value_or(0.0);
  return rope;
}

// Pairs that stand still have a divisor of 1e30; the others all have the same.
model::RopeSpec proportional_rope(const io::GgufFile& file, const io::GgufTensor& tensor,
                                  const model::ModelConfig& config) {
  const std::vector<float> stored = divisors_of(file, tensor, config.head_dim);
  const auto still =
      std::find_if(stored.begin(), stored.end(), [](float divisor) { return divisor >= 1e29f; });
  const bool same =
      std::all_of(stored.begin(), still,
                  [&](float divisor) { return divisor == stored.front(); }) &&
      std::all_of(still, stored.end(), [](float divisor) { return divisor >= 1e29f; });
  if (!same || still == stored.begin())
    refuse_gguf(file,
                fmt::format("tensor '{}' is not one divisor for the first pairs of a head and "
                            "1e30 for the others",
                            kRopeFreqs));
  model::RopeSpec rope = config.rope;
  rope.scaling = Scaling::kProportional;
  rope.factor = stored.front();
  rope.proportion =
      static_cast<double>(still - stored.begin()) / static_cast<double>(stored.size());
  return rope;
}

std::vector<Index> sections_of(const GgufKeyReader& keys) {
  const std::vector<Index> sections = keys.counts("rope.dimension_sections");
  if (sections.size() != 4)
    refuse_gguf(keys.file(), "key 'rope.dimension_sections' must be a list of 4 counts");
  return sections;
}

void read_rope(const std::string& arch, const GgufKeyReader& keys, model::ModelConfig& config) {
  config.rope.theta = keys.find_real("rope.freq_base").value_or(arch == "gemma3" ? 1e6 : 1e4);
  config.local_rope.theta =
      keys.find_real("rope.freq_base_swa").value_or(arch == "olmo2" ? config.rope.theta : 1e4);
  config.rope.adjacent = arch == "ernie4_5-moe";
  const Index turned = keys.find_count("rope.dimension_count").value_or(config.head_dim);
  const bool can_turn_partly =
      arch == "phi3" || arch == "glm4moe" || arch == "minimax-m2" || gguf_has_delta_nets(arch);
  const bool partly = can_turn_partly && turned < config.head_dim && turned % 2 == 0;
  if (turned != config.head_dim && !partly)
    refuse_gguf(keys.file(), fmt::format("{} of the {} channels of a head have rotary positions; "
                                         "calque reads models of architecture '{}' that rotate all",
                                         turned, config.head_dim, arch));
  if (partly) config.rope.channels = turned;
  config.turned_layers = gguf_turned_layers(arch, config.num_layers);
  if (gguf_has_sections(arch)) config.rope_sections = sections_of(keys);
  config.deepstack_layers = keys.find_count("n_deepstack_layers").value_or(0);
  if (const io::GgufTensor* divisors = keys.file().find_tensor(kRopeFreqs)) {
    config.rope = arch == "gemma4" ? proportional_rope(keys.file(), *divisors, config)
                                   : llama3_rope(keys.file(), *divisors, config);
    return;
  }
  if (keys.file().find_tensor(kRopeFactorsLong) != nullptr) {
    config.rope = long_rope(keys, config);
    return;
  }
  const std::string scaling = keys.find_text("rope.scaling.type").value_or("none");
  if (scaling == "none") return;
  if (scaling == "yarn") {
    config.rope = yarn_rope(arch, keys, config);
    return;
  }
  if (scaling != "linear")
    refuse_gguf(keys.file(), fmt::format("rope.scaling.type '{}' cannot be read; calque reads "
                                         "linear, yarn, and longrope with its factors as tensors",
                                         scaling));
  config.rope.factor = keys.find_real("rope.scaling.factor").value_or(1.0);
  if (config.rope.factor != 1.0) config.rope.scaling = Scaling::kLinear;
}

// Same limit as for config.json: every expert becomes three linears, so a false count must not
// exhaust memory.
constexpr Index kMostExperts = 4096;
constexpr Index kMostExpertsOfAllLayers = 200'000;

// The width of the first matrix named `name`: ne [hidden, width, ...].
std::optional<Index> width_of(const io::GgufFile& file, std::string_view name) {
  const io::GgufTensor* tensor = file.find_tensor(name);
  if (tensor == nullptr || tensor->ne.size() < 2 ||
      tensor->ne[1] > static_cast<std::uint64_t>(kMostGgufSize))
    return std::nullopt;
  return static_cast<Index>(tensor->ne[1]);
}

void read_counts(const GgufKeyReader& keys, model::ModelConfig& config) {
  config.routing.used = keys.count("expert_used_count");
  if (config.num_experts > kMostExperts ||
      config.num_experts * config.num_layers > kMostExpertsOfAllLayers)
    refuse_gguf(
        keys.file(),
        fmt::format("key 'expert_count' is {} in {} layers; calque takes {} in a layer and "
                    "{} in all",
                    config.num_experts, config.num_layers, kMostExperts, kMostExpertsOfAllLayers));
  if (config.routing.used > config.num_experts)
    refuse_gguf(keys.file(), fmt::format("key 'expert_used_count' is {} of only {} experts",
                                         config.routing.used, config.num_experts));
}

// The heads that set_sizes has read are those of the layers without a window.
void read_gemma4_heads(const GgufKeyReader& keys, model::ModelConfig& config) {
  const auto kv_heads = keys.by_layer("attention.head_count_kv", config.num_layers);
  config.full_head_dim = config.head_dim;
  config.head_dim = keys.count("attention.key_length_swa");
  if (config.head_dim % 2 != 0)
    refuse_gguf(keys.file(), fmt::format("key 'attention.key_length_swa' is {}; rotary positions "
                                         "need an even number",
                                         config.head_dim));
  for (Index layer = 0; layer < config.num_layers; ++layer) {
    const Index heads = kv_heads ? (*kv_heads)[static_cast<std::size_t>(layer)] : config.num_heads;
    Index& known = config.has_window(layer) ? config.num_kv_heads : config.full_kv_heads;
    known = heads;
    if (config.num_heads % heads != 0)
      refuse_gguf(keys.file(), fmt::format("{} heads and {} key/value heads do not fit together",
                                           config.num_heads, heads));
    if (config.has_window(layer) || config.shares_keys_values(layer)) continue;
    config.full_values_are_keys =
        !has_tensor(keys.file(), fmt::format("blk.{}.attn_v.weight", layer));
  }
  if (config.full_kv_heads == config.num_kv_heads) config.full_kv_heads = 0;
}

void read_gemma4(const std::string& arch, const GgufKeyReader& keys, model::ModelConfig& config) {
  if (arch != "gemma4") return;
  config.norm_plus_one = false;
  config.shared_kv_layers = keys.count_or_zero("attention.shared_kv_layers");
  if (config.shared_kv_layers >= config.num_layers)
    refuse_gguf(keys.file(), fmt::format("key 'attention.shared_kv_layers' is {} of {} layers",
                                         config.shared_kv_layers, config.num_layers));
  const auto widths = keys.by_layer("feed_forward_length", config.num_layers);
  if (config.shared_kv_layers > 0 && widths && widths->back() != widths->front())
    config.shared_kv_intermediate_size = widths->back();
  config.layer_embedding_size = keys.count_or_zero("embedding_length_per_layer_input");
  read_gemma4_heads(keys, config);
}

void read_gemma(const std::string& arch, const GgufKeyReader& keys, model::ModelConfig& config) {
  if (!arch.starts_with("gemma")) return;
  config.hidden_act = "gelu_pytorch_tanh";
  config.norm_plus_one = true;
  config.embedding_scale = std::sqrt(static_cast<double>(config.hidden_size));
  if (arch == "gemma") return;
  config.query_scale = gguf_query_scale(arch, config);
  const bool second = arch == "gemma2";
  config.attention_softcap = keys.find_real("attn_logit_softcapping").value_or(second ? 50.0 : 0.0);
  config.logit_softcap = keys.find_real("final_logit_softcapping").value_or(second ? 30.0 : 0.0);
}

void read_delta_nets(const std::string& arch, const GgufKeyReader& keys,
                     model::ModelConfig& config) {
  if (!gguf_has_delta_nets(arch)) return;
  config.norm_plus_one = true;
  model::DeltaNetSizes& sizes = config.delta_net;
  sizes.kernel = keys.count("ssm.conv_kernel");
  sizes.key_dim = keys.count("ssm.state_size");
  sizes.key_heads = keys.count("ssm.group_count");
  sizes.value_heads = keys.count("ssm.time_step_rank");
  const Index width = keys.count("ssm.inner_size");
  if (sizes.value_heads % sizes.key_heads != 0 || width % sizes.value_heads != 0)
    refuse_gguf(keys.file(), fmt::format("{} value heads, {} key heads and {} value channels of "
                                         "the delta nets do not fit together",
                                         sizes.value_heads, sizes.key_heads, width));
  sizes.value_dim = width / sizes.value_heads;
  const Index interval = keys.find_count("full_attention_interval").value_or(4);
  for (Index layer = 0; layer < config.num_layers; ++layer)
    config.delta_net_layers.push_back((layer + 1) % interval != 0);
}

void read_listed_windows(const GgufKeyReader& keys, model::ModelConfig& config) {
  const char* const key = "attention.sliding_window_pattern";
  const std::vector<bool> windowed = keys.flags(key);
  if (windowed.size() != config.window_of_layer.size())
    refuse_gguf(keys.file(),
                fmt::format("key '{}' must list {} layers", key, config.window_of_layer.size()));
  for (std::size_t i = 0; i < windowed.size(); ++i)
    config.window_of_layer[i] = windowed[i] ? keys.count("attention.sliding_window") : 0;
}

void read_windows(const std::string& arch, const GgufKeyReader& keys, model::ModelConfig& config) {
  if (gguf_lists_windows(arch)) return read_listed_windows(keys, config);
  const Index period = gguf_window_period(arch, config.num_layers);
  if (period == 0 && arch != "phi3") return;
  Index window = keys.count_or_zero("attention.sliding_window");
  if ((arch == "gemma2" || arch == "exaone4") && window == 0) window = 4096;
  for (std::size_t i = 0; i < config.window_of_layer.size(); ++i) {
    const bool full = period > 0 && (static_cast<Index>(i) + 1) % period == 0;
    config.window_of_layer[i] = full ? 0 : window;
  }
}

void read_routing(const std::string& arch, const GgufKeyReader& keys, model::ModelConfig& config) {
  const GgufExperts loaders = gguf_experts(arch);
  model::Routing& routing = config.routing;
  const Index used = routing.used;
  routing = loaders.routing;
  routing.used = used;
  if (loaders.scores_key) {
    const Index scores = keys.find_count("expert_gating_func").value_or(kGgufSigmoid);
    if (scores != kGgufSigmoid)
      refuse_gguf(keys.file(), fmt::format("key 'expert_gating_func' is {}; calque reads models of "
                                           "architecture '{}' with {}",
                                           scores, arch, kGgufSigmoid));
  }
  if (loaders.weight_keys) {
    routing.normalize = keys.find_flag("expert_weights_norm").value_or(false);
    routing.scale = keys.find_real("expert_weights_scale").value_or(1.0);
  }
  routing.groups = keys.find_count("expert_group_count").value_or(1);
  routing.groups_used = keys.find_count("expert_group_used_count").value_or(1);
  const Index size = config.num_experts / routing.groups;
  if (routing.groups > 1 &&
      (size < 2 || size * routing.groups != config.num_experts ||
       routing.groups_used > routing.groups || routing.groups_used * size < routing.used))
    refuse_gguf(keys.file(),
                fmt::format("{} of {} experts cannot be chosen from {} of {} groups", routing.used,
                            config.num_experts, routing.groups_used, routing.groups));
}

// Layers with a router have experts.
std::vector<bool> layers_with_experts(const io::GgufFile& file, const GgufExperts& loaders,
                                      Index layers) {
  std::vector<bool> result;
  for (Index i = 0; i < layers; ++i)
    result.push_back(loaders.dense == GgufExperts::Dense::kNone ||
                     has_tensor(file, fmt::format("blk.{}.ffn_gate_inp.weight", i)));
  return result;
}

void read_experts(const std::string& arch, const GgufKeyReader& keys, model::ModelConfig& config) {
  config.num_experts = keys.count_or_zero("expert_count");
  if (config.num_experts == 0) return;
  read_counts(keys, config);
  read_routing(arch, keys, config);
  config.experts_in_layer = layers_with_experts(keys.file(), gguf_experts(arch), config.num_layers);
  const Index first = model::first_expert_layer(config);
  // Older files state the widths only by their tensors.
  const io::GgufFile& file = keys.file();
  const auto width = [&](const char* key, const char* tensor) {
    const std::optional<Index> given = keys.find_count(key);
    return given ? given : width_of(file, fmt::format("blk.{}.{}.weight", first, tensor));
  };
  config.expert_intermediate_size =
      width("expert_feed_forward_length", "ffn_gate_exps").value_or(config.intermediate_size);
  const bool shared = has_tensor(file, fmt::format("blk.{}.ffn_gate_shexp.weight", first));
  if (shared || arch == "qwen2moe")
    config.shared_intermediate_size = width("expert_shared_feed_forward_length", "ffn_gate_shexp")
                                          .value_or(config.intermediate_size);
}

}  // namespace

model::ModelConfig gguf_config(const io::GgufFile& file) {
  const GgufArchitecture& architecture = gguf_architecture_of(file);
  const GgufKeyReader keys(file, architecture.gguf);
  model::ModelConfig config;
  config.architecture = architecture.hugging_face;
  config.model_type = model::find_family(architecture.hugging_face)->model_type;
  set_sizes(file, keys, config);
  const std::optional<double> eps = keys.find_real("attention.layer_norm_rms_epsilon");
  if (!eps)
    refuse_gguf(file, fmt::format("key '{}.attention.layer_norm_rms_epsilon' is missing",
                                  architecture.gguf));
  config.rms_norm_eps = *eps;
  const std::string arch(architecture.gguf);
  read_rope(arch, keys, config);
  read_gemma(arch, keys, config);
  read_windows(arch, keys, config);
  read_gemma4(arch, keys, config);
  read_delta_nets(arch, keys, config);
  if (gguf_experts(arch).any) read_experts(arch, keys, config);
  config.tie_word_embeddings = !has_tensor(file, "output.weight");
  config.attention_bias = has_tensor(file, "blk.0.attn_q.bias");
  config.qk_norm = has_tensor(file, "blk.0.attn_q_norm.weight");
  config.attention_out_bias = arch == "seed_oss" && has_tensor(file, "blk.0.attn_output.bias");
  config.clamped_gate = gguf_clamped_gate(arch);
  config.mlp_bias = has_tensor(file, "blk.0.ffn_gate.bias");
  config.bos_token_id = file.integer("tokenizer.ggml.bos_token_id");
  config.eos_token_id = file.integer("tokenizer.ggml.eos_token_id");
  return config;
}

std::vector<float> llama3_divisors(const model::RopeSpec& rope, Index head_dim) {
  const auto original = static_cast<double>(rope.original_max_positions);
  std::vector<float> divisors;
  for (Index i = 0; i < head_dim / 2; ++i) {
    const double exponent = 2.0 * static_cast<double>(i) / static_cast<double>(head_dim);
    const double wavelength = 2.0 * std::numbers::pi * std::pow(rope.theta, exponent);
    double divisor = rope.factor;
    if (wavelength < original / rope.high_freq_factor) {
      divisor = 1.0;
    } else if (wavelength <= original / rope.low_freq_factor) {
      const double smooth = (original / wavelength - rope.low_freq_factor) /
                            (rope.high_freq_factor - rope.low_freq_factor);
      divisor = 1.0 / ((1.0 - smooth) / rope.factor + smooth);
    }
    divisors.push_back(static_cast<float>(divisor));
  }
  return divisors;
}

std::vector<RopeTensor> gguf_rope_tensors(const model::ModelConfig& config) {
  const model::RopeSpec& rope = config.rope;
  if (rope.scaling == Scaling::kLlama3)
    return {{kRopeFreqs, llama3_divisors(rope, config.head_dim)}};
  if (config.full_head_dim > 0) {  // loaders ask for it even where all pairs turn
    const auto pairs = static_cast<std::size_t>(config.full_head_dim / 2);
    std::vector<float> divisors(pairs, 1e30f);
    const auto turning = static_cast<std::size_t>(rope.proportion * static_cast<double>(pairs));
    std::fill_n(divisors.begin(), turning, static_cast<float>(rope.factor));
    return {{kRopeFreqs, std::move(divisors)}};
  }
  if (rope.scaling != Scaling::kLongRope) return {};
  return {{kRopeFactorsLong, {rope.long_factors.begin(), rope.long_factors.end()}},
          {kRopeFactorsShort, {rope.short_factors.begin(), rope.short_factors.end()}}};
}

}  // namespace calque::formats
