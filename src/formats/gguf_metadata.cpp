#include "formats/gguf_metadata.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <string_view>
#include <utility>

#include "calque/core/error.h"
#include "formats/gguf_architectures.h"
#include "formats/gguf_mix.h"

namespace calque::formats {
namespace {

// Collects the keys of a file. Counts are u32 and reals f32, as loaders require.
class GgufKeys {
 public:
  using Scalar = io::GgufValue::Scalar;
  using Array = io::GgufValue::Array;

  void text(std::string key, std::string value) { add(std::move(key), Scalar(std::move(value))); }
  void count(std::string key, std::int64_t value) {
    add(std::move(key), Scalar(static_cast<std::uint32_t>(value)));
  }
  void real(std::string key, double value) {
    add(std::move(key), Scalar(static_cast<float>(value)));
  }
  void flag(std::string key, bool value) { add(std::move(key), Scalar(value)); }
  template <typename T>
  void list(std::string key, std::vector<T> values) {
    add(std::move(key), Array(std::move(values)));
  }
  void append(const io::GgufMetadata& keys) { keys_.insert(keys_.end(), keys.begin(), keys.end()); }
  bool has(std::string_view key) const {
    return std::any_of(keys_.begin(), keys_.end(),
                       [key](const auto& entry) { return entry.first == key; });
  }
  io::GgufMetadata take() { return std::move(keys_); }

 private:
  void add(std::string key, io::GgufValue value) {
    keys_.emplace_back(std::move(key), std::move(value));
  }
  io::GgufMetadata keys_;
};

// ---- Keys that a GGUF file made from another one keeps

constexpr std::string_view kPre = "tokenizer.ggml.pre";

// These are written anew: they describe the file, not the model.
constexpr std::array<std::string_view, 6> kOfTheFile = {
    "general.architecture",         "general.type",      "general.file_type",
    "general.quantization_version", "general.alignment", "general.quantized_by"};

bool is_local_path(const std::string& text) {
  const bool drive = text.size() > 2 && text[1] == ':' && (text[2] == '\\' || text[2] == '/');
  return text.starts_with('/') || text.starts_with("~/") || text.starts_with("./") ||
         text.starts_with("../") || text.starts_with("file:") || drive;
}

bool names_a_folder(const io::GgufValue& value) {
  if (const auto* scalar = std::get_if<io::GgufValue::Scalar>(&value.value)) {
    const auto* text = std::get_if<std::string>(scalar);
    return text != nullptr && is_local_path(*text);
  }
  const auto* list =
      std::get_if<std::vector<std::string>>(&std::get<io::GgufValue::Array>(value.value));
  return list != nullptr && std::any_of(list->begin(), list->end(), is_local_path);
}

// Keeps the general.* keys on the model (name, license, origin, ...), but none on the file, its
// quantization or local folders.
io::GgufMetadata carried_general(const io::GgufMetadata& source) {
  io::GgufMetadata carried;
  for (const auto& [key, value] : source) {
    if (!key.starts_with("general.") || names_a_folder(value)) continue;
    if (std::find(kOfTheFile.begin(), kOfTheFile.end(), key) != kOfTheFile.end()) continue;
    carried.emplace_back(key, value);
  }
  return carried;
}

// Keeps all of tokenizer.*; a `pre` that is not empty replaces tokenizer.ggml.pre.
io::GgufMetadata carried_tokenizer(const io::GgufMetadata& source, const std::string& pre) {
  io::GgufMetadata carried;
  for (const auto& [key, value] : source)
    if (key.starts_with("tokenizer.") && (key != kPre || pre.empty()))
      carried.emplace_back(key, value);
  if (!pre.empty() && !carried.empty()) carried.emplace_back(kPre, io::GgufValue::Scalar(pre));
  return carried;
}

// The keys that begin with the name of the architecture: sizes, RoPE, experts, windows.

using Scaling = model::RopeSpec::Scaling;

// One number where it is the same for all layers, else a list.
void add_by_layer(const std::string& key, const std::vector<Index>& counts, GgufKeys& keys) {
  if (std::all_of(counts.begin(), counts.end(), [&](Index n) { return n == counts.front(); }))
    return keys.count(key, counts.front());
  keys.list(key, std::vector<std::int32_t>(counts.begin(), counts.end()));
}

// Heads are those of the layers without a window; those of the others have keys of their own.
void add_gemma4(const std::string& arch, const model::ModelConfig& config, GgufKeys& keys) {
  if (arch != "gemma4") return;
  keys.count(arch + ".attention.key_length_swa", config.head_dim);
  keys.count(arch + ".attention.value_length_swa", config.head_dim);
  keys.count(arch + ".attention.shared_kv_layers", config.shared_kv_layers);
  keys.count(arch + ".embedding_length_per_layer_input", config.layer_embedding_size);
  keys.count(arch + ".rope.dimension_count", config.full_head_dim);
  keys.count(arch + ".rope.dimension_count_swa", config.head_dim);
}

void add_sizes(const std::string& arch, const model::ModelConfig& config, GgufKeys& keys) {
  keys.count(arch + ".block_count", config.num_layers);
  keys.count(arch + ".context_length", config.max_positions);
  keys.count(arch + ".embedding_length", config.hidden_size);
  std::vector<Index> widths, kv_heads;
  for (Index layer = 0; layer < config.num_layers; ++layer) {
    widths.push_back(config.intermediate_size_of(layer));
    kv_heads.push_back(config.kv_heads_of(layer));
  }
  add_by_layer(arch + ".feed_forward_length", widths, keys);
  keys.count(arch + ".attention.head_count", config.num_heads);
  add_by_layer(arch + ".attention.head_count_kv", kv_heads, keys);
  keys.real(arch + ".attention.layer_norm_rms_epsilon", config.rms_norm_eps);
  const Index head_dim = config.full_head_dim > 0 ? config.full_head_dim : config.head_dim;
  keys.count(arch + ".attention.key_length", head_dim);
  keys.count(arch + ".attention.value_length", head_dim);
}

// Architectures whose converters state the number of turned channels, and the vocabulary.
bool is_like_llama(const std::string& arch) {
  constexpr std::array<std::string_view, 8> kOnes = {"llama",   "phi3",  "mistral3",   "smollm3",
                                                     "glm4moe", "hy_v3", "minimax-m2", "exaone4"};
  return std::find(kOnes.begin(), kOnes.end(), arch) != kOnes.end();
}

// Loaders of mistral3 divide gguf_yarn_factor by the same with this multiplier of the logarithm.
double yarn_log_multiplier(const model::RopeSpec& rope) {
  const double whole = gguf_yarn_factor(rope);
  return (whole / rope.attention_factor - 1) / (whole - 1);
}

void add_yarn(const std::string& arch, const model::RopeSpec& rope, GgufKeys& keys) {
  keys.text(arch + ".rope.scaling.type", "yarn");
  keys.real(arch + ".rope.scaling.factor", rope.factor);
  keys.count(arch + ".rope.scaling.original_context_length", rope.original_max_positions);
  keys.real(arch + ".rope.scaling.yarn_beta_fast", rope.beta_fast);
  keys.real(arch + ".rope.scaling.yarn_beta_slow", rope.beta_slow);
  if (arch != "mistral3") return;
  if (rope.factor > 1)
    keys.real(arch + ".rope.scaling.yarn_log_multiplier", yarn_log_multiplier(rope));
  if (rope.query_growth != 0) keys.real(arch + ".attention.temperature_scale", rope.query_growth);
}

void add_sections(const std::string& arch, const model::ModelConfig& config, GgufKeys& keys) {
  if (!gguf_has_sections(arch)) return;
  keys.list(arch + ".rope.dimension_sections",
            std::vector<std::int32_t>(config.rope_sections.begin(), config.rope_sections.end()));
  if (arch.starts_with("qwen3vl"))
    keys.count(arch + ".n_deepstack_layers", config.deepstack_layers);
}

// llama3's divisors and longrope's factors are tensors.
void add_rope(const std::string& arch, const model::ModelConfig& config, GgufKeys& keys) {
  const model::RopeSpec& rope = config.rope;
  keys.real(arch + ".rope.freq_base", rope.theta);
  if (arch == "gemma3" || arch == "gemma4")
    keys.real(arch + ".rope.freq_base_swa", config.local_rope.theta);
  if (is_like_llama(arch) || gguf_has_delta_nets(arch))
    keys.count(arch + ".rope.dimension_count", rope.turned(config.head_dim));
  if (rope.scaling == Scaling::kLinear) {
    keys.text(arch + ".rope.scaling.type", "linear");
    keys.real(arch + ".rope.scaling.factor", rope.factor);
  }
  if (rope.scaling == Scaling::kYarn) add_yarn(arch, rope, keys);
  if (rope.scaling == Scaling::kLongRope) {
    keys.count(arch + ".rope.scaling.original_context_length", rope.original_max_positions);
    keys.real(arch + ".rope.scaling.attn_factor", rope.attention_factor);
  }
}

void add_delta_nets(const std::string& arch, const model::ModelConfig& config, GgufKeys& keys) {
  if (!gguf_has_delta_nets(arch)) return;
  const model::DeltaNetSizes& sizes = config.delta_net;
  keys.count(arch + ".ssm.conv_kernel", sizes.kernel);
  keys.count(arch + ".ssm.state_size", sizes.key_dim);
  keys.count(arch + ".ssm.group_count", sizes.key_heads);
  keys.count(arch + ".ssm.time_step_rank", sizes.value_heads);
  keys.count(arch + ".ssm.inner_size", sizes.value_channels());
  keys.count(arch + ".full_attention_interval", gguf_attention_interval(config));
}

void add_routing(const std::string& arch, const model::Routing& routing, GgufKeys& keys) {
  const GgufExperts loaders = gguf_experts(arch);
  if (routing.groups > 1) {
    keys.count(arch + ".expert_group_count", routing.groups);
    keys.count(arch + ".expert_group_used_count", routing.groups_used);
  }
  if (loaders.scores_key)
    keys.count(arch + ".expert_gating_func",
               routing.scores == model::Routing::Scores::kSigmoid ? kGgufSigmoid : kGgufSoftmax);
  if (!loaders.weight_keys) return;
  keys.flag(arch + ".expert_weights_norm", routing.normalize);
  keys.real(arch + ".expert_weights_scale", routing.scale);
}

void add_experts(const std::string& arch, const model::ModelConfig& config, GgufKeys& keys) {
  if (config.num_experts == 0) return;
  keys.count(arch + ".expert_count", config.num_experts);
  keys.count(arch + ".expert_used_count", config.routing.used);
  add_routing(arch, config.routing, keys);
  const GgufExperts loaders = gguf_experts(arch);
  using Dense = GgufExperts::Dense;
  if (loaders.dense == Dense::kFirst || loaders.dense == Dense::kSteps)
    keys.count(arch + ".leading_dense_block_count", model::first_expert_layer(config));
  if (loaders.dense == Dense::kSteps)
    keys.count(arch + ".interleave_moe_layer_step", model::expert_layer_step(config));
  if (loaders.shared_count)
    keys.count(arch + ".expert_shared_count",
               config.shared_intermediate_size / config.expert_intermediate_size);
  // Mixtral's experts are feed_forward_length wide.
  if (arch != "llama")
    keys.count(arch + ".expert_feed_forward_length", config.expert_intermediate_size);
  if (config.shared_intermediate_size > 0)
    keys.count(arch + ".expert_shared_feed_forward_length", config.shared_intermediate_size);
}

// phi3 must state that it has no window; llama and qwen have no key for theirs.
void add_windows(const std::string& arch, const model::ModelConfig& config, GgufKeys& keys) {
  const bool listed = gguf_lists_windows(arch);
  if (arch != "phi3" && !listed && gguf_window_period(arch, config.num_layers) == 0) return;
  const std::vector<Index>& windows = config.window_of_layer;
  keys.count(arch + ".attention.sliding_window", *std::max_element(windows.begin(), windows.end()));
  if (!listed) return;
  std::vector<bool> windowed;
  for (const Index window : windows) windowed.push_back(window > 0);
  keys.list(arch + ".attention.sliding_window_pattern", windowed);
}

void add_caps(const std::string& arch, const model::ModelConfig& config, GgufKeys& keys) {
  if (config.attention_softcap > 0)
    keys.real(arch + ".attn_logit_softcapping", config.attention_softcap);
  if (config.logit_softcap > 0) keys.real(arch + ".final_logit_softcapping", config.logit_softcap);
}

void add_architecture_keys(const WriterInputs& inputs, GgufKeys& keys) {
  const std::string& arch = inputs.family.gguf_architecture;
  const model::ModelConfig& config = inputs.family.config;
  add_sizes(arch, config, keys);
  // Without tokens, this key is the loader's only source of their number.
  if (is_like_llama(arch) || inputs.vocabulary == nullptr)
    keys.count(arch + ".vocab_size", config.vocab_size);
  add_rope(arch, config, keys);
  add_gemma4(arch, config, keys);
  add_sections(arch, config, keys);
  add_delta_nets(arch, config, keys);
  add_experts(arch, config, keys);
  add_windows(arch, config, keys);
  add_caps(arch, config, keys);
}

// ---- The other keys

double weight_count(const ExportPlan& plan) {
  double count = 0;
  for (const TensorPlan& planned : plan.tensors) {
    double elements = 1;
    for (const Index n : planned.tensor.shape) elements *= static_cast<double>(n);
    count += elements;
  }
  return count;
}

// The keys that llama-quantize writes.
void add_imatrix(const ImatrixNote& note, GgufKeys& keys) {
  keys.text("quantize.imatrix.file", note.file);
  keys.text("quantize.imatrix.dataset", note.dataset);
  keys.count("quantize.imatrix.entries_count", note.entries);
  keys.count("quantize.imatrix.chunks_count", note.chunks);
}

// A model on the hub has an organization in its name; a name without one is local.
void add_base_model(const std::string& model, GgufKeys& keys) {
  const std::size_t slash = model.find('/');
  if (slash == 0 || slash == std::string::npos || slash + 1 == model.size()) return;
  if (model.find('/', slash + 1) != std::string::npos) return;
  keys.count("general.base_model.count", 1);
  keys.text("general.base_model.0.name", model.substr(slash + 1));
  keys.text("general.base_model.0.organization", model.substr(0, slash));
  keys.text("general.base_model.0.repo_url", "https://huggingface.co/" + model);
}

void add_origin(const Provenance& provenance, GgufKeys& keys) {
  if (!keys.has("general.license") && !provenance.license.empty())
    keys.text("general.license", provenance.license);
  if (!keys.has("general.quantized_by") && !provenance.quantized_by.empty())
    keys.text("general.quantized_by", provenance.quantized_by);
  if (!keys.has("general.base_model.count")) add_base_model(provenance.base_model, keys);
}

void add_general(const ExportPlan& plan, const WriterInputs& inputs, GgufKeys& keys) {
  const GgufMix& mix = gguf_mix(plan.request.type);
  keys.text("general.architecture", inputs.family.gguf_architecture);
  keys.text("general.type", "model");
  if (inputs.carried != nullptr) keys.append(carried_general(*inputs.carried));
  if (!keys.has("general.name") && !inputs.provenance.model_name.empty())
    keys.text("general.name", inputs.provenance.model_name);
  if (!keys.has("general.size_label"))
    keys.text("general.size_label", size_label(weight_count(plan)));
  add_origin(inputs.provenance, keys);
  keys.count("general.file_type", mix.file_type);
  keys.count("general.quantization_version", 2);
  if (!mix.quantized()) return;
  keys.text("calque.quantizer", inputs.provenance.quantizer);
  keys.text("calque.method", inputs.provenance.method);
  if (inputs.provenance.imatrix) add_imatrix(*inputs.provenance.imatrix, keys);
}

// The separator's key is misspelt in the format.
std::string id_key(const std::string& name) {
  constexpr std::array<std::pair<std::string_view, std::string_view>, 4> kOther = {
      {{"unk", "unknown"}, {"pad", "padding"}, {"sep", "seperator"}, {"separator", "seperator"}}};
  for (const auto& [theirs, ours] : kOther)
    if (name == theirs) return fmt::format("tokenizer.ggml.{}_token_id", ours);
  return fmt::format("tokenizer.ggml.{}_token_id", name);
}

void require_matching_size(const text::Vocabulary& vocabulary, Index embedding_rows) {
  const std::size_t tokens = vocabulary.tokens.size();
  if (tokens == static_cast<std::size_t>(embedding_rows) && vocabulary.types.size() == tokens)
    return;
  throw Error(ErrorKind::kInput, "E213",
              fmt::format("the tokenizer has {} tokens and {} token types, and the embedding has "
                          "{} rows: GGUF needs the same number of each",
                          tokens, vocabulary.types.size(), embedding_rows));
}

std::vector<std::int32_t> token_types(const text::Vocabulary& vocabulary,
                                      const GgufPieces* pieces) {
  using Type = text::Vocabulary::TokenType;
  std::vector<std::int32_t> types;
  for (std::size_t id = 0; id < vocabulary.types.size(); ++id) {
    const bool readable =
        pieces != nullptr &&
        std::count(pieces->readable.begin(), pieces->readable.end(), vocabulary.tokens[id]) > 0;
    types.push_back(
        static_cast<std::int32_t>(readable ? Type::kUserDefined : vocabulary.types[id]));
  }
  return types;
}

// Pieces whose merges are not known are joined by scores in every architecture.
void add_tokens(const text::Vocabulary& vocabulary, const GgufPieces* pieces, GgufKeys& keys) {
  const bool scored = vocabulary.kind == text::Vocabulary::Kind::kSentencePiece;
  if (!scored || vocabulary.merges.empty()) pieces = nullptr;
  const std::string_view model = pieces != nullptr ? pieces->model : scored ? "llama" : "gpt2";
  keys.text("tokenizer.ggml.model", std::string(model));
  if (pieces == nullptr) keys.text("tokenizer.ggml.pre", vocabulary.pre);
  keys.list("tokenizer.ggml.tokens", vocabulary.tokens);
  if (scored) keys.list("tokenizer.ggml.scores", vocabulary.scores);
  keys.list("tokenizer.ggml.token_type", token_types(vocabulary, pieces));
  if (!scored || pieces != nullptr) keys.list("tokenizer.ggml.merges", vocabulary.merges);
}

void add_named_templates(const text::Vocabulary& vocabulary, GgufKeys& keys) {
  if (vocabulary.named_templates.empty()) return;
  std::vector<std::string> names;
  for (const auto& [name, text] : vocabulary.named_templates) {
    keys.text("tokenizer.chat_template." + name, text);
    names.push_back(name);
  }
  keys.list("tokenizer.chat_templates", std::move(names));
}

void add_tokenizer(const ExportPlan& plan, const WriterInputs& inputs, GgufKeys& keys) {
  if (inputs.carried != nullptr) keys.append(carried_tokenizer(*inputs.carried, plan.request.pre));
  if (keys.has("tokenizer.ggml.model")) return;
  if (inputs.vocabulary == nullptr) {
    keys.text("tokenizer.ggml.model", "none");
    return;
  }
  text::Vocabulary vocabulary = *inputs.vocabulary;
  if (!plan.request.pre.empty()) vocabulary.pre = plan.request.pre;
  require_matching_size(vocabulary, inputs.family.embedding.shape[0]);
  add_tokens(vocabulary, gguf_pieces_by_merges(inputs.family.gguf_architecture), keys);
  for (const auto& [name, id] : vocabulary.special_ids) keys.count(id_key(name), id);
  if (vocabulary.add_bos) keys.flag("tokenizer.ggml.add_bos_token", *vocabulary.add_bos);
  if (vocabulary.add_eos) keys.flag("tokenizer.ggml.add_eos_token", *vocabulary.add_eos);
  if (vocabulary.add_space_prefix)
    keys.flag("tokenizer.ggml.add_space_prefix", *vocabulary.add_space_prefix);
  if (!vocabulary.chat_template.empty())
    keys.text("tokenizer.chat_template", vocabulary.chat_template);
  add_named_templates(vocabulary, keys);
}

}  // namespace

std::string size_label(double weights) {
  constexpr std::array<std::pair<double, char>, 3> kUnits = {{{1e12, 'T'}, {1e9, 'B'}, {1e6, 'M'}}};
  double scaled = weights / 1e3;
  char suffix = 'K';
  for (const auto& [unit, letter] : kUnits)
    if (weights > unit) {
      scaled = weights / unit;
      suffix = letter;
      break;
    }
  return fmt::format("{:.{}f}{}", scaled, std::nearbyint(scaled) < 10 ? 1 : 0, suffix);
}

io::GgufMetadata gguf_metadata(const ExportPlan& plan, const WriterInputs& inputs) {
  GgufKeys keys;
  add_general(plan, inputs, keys);
  add_architecture_keys(inputs, keys);
  add_tokenizer(plan, inputs, keys);
  return keys.take();
}

}  // namespace calque::formats
