#include "artifact/gguf_metadata.h"

#include <fmt/format.h>

#include <array>
#include <cmath>

#include "artifact/gguf_mix.h"
#include "artifact/gguf_types.h"
#include "calque/core/error.h"

namespace calque::artifact {
namespace {

using Scalar = io::GgufValue::Scalar;
using Array = io::GgufValue::Array;

// Collects keys. Counts are u32 and reals f32, because loaders insist on it.
class Keys {
 public:
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
  io::GgufMetadata take() { return std::move(keys_); }

 private:
  void add(std::string key, io::GgufValue value) {
    keys_.emplace_back(std::move(key), std::move(value));
  }
  io::GgufMetadata keys_;
};

double weight_count(const ExportPlan& plan) {
  double count = 0;
  for (const TensorPlan& planned : plan.tensors) {
    double elements = 1;
    for (const Index n : planned.tensor.shape) elements *= static_cast<double>(n);
    count += elements;
  }
  return count;
}

void add_general(const ExportPlan& plan, const WriterInputs& inputs, Keys& keys) {
  const GgufMix& mix = gguf_mix(plan.request.type);
  keys.text("general.architecture", inputs.family.gguf_architecture);
  keys.text("general.type", "model");
  if (!inputs.provenance.model_name.empty())
    keys.text("general.name", inputs.provenance.model_name);
  keys.text("general.size_label", size_label(weight_count(plan)));
  keys.count("general.file_type", mix.file_type);
  keys.count("general.quantization_version", 2);
  if (!mix.quantized()) return;
  keys.text("calque.quantizer", inputs.provenance.quantizer);
  keys.text("calque.method", inputs.provenance.method);
}

void add_rope(const std::string& arch, const model::ModelConfig& config, Keys& keys) {
  keys.real(arch + ".rope.freq_base", config.rope.theta);
  if (arch == "llama") keys.count(arch + ".rope.dimension_count", config.head_dim);
  if (config.rope.scaling != model::RopeSpec::Scaling::kLinear) return;
  keys.text(arch + ".rope.scaling.type", "linear");
  keys.real(arch + ".rope.scaling.factor", config.rope.factor);
}

void add_architecture(const WriterInputs& inputs, Keys& keys) {
  const std::string& arch = inputs.family.gguf_architecture;
  const model::ModelConfig& config = inputs.family.config;
  keys.count(arch + ".block_count", config.num_layers);
  keys.count(arch + ".context_length", config.max_positions);
  keys.count(arch + ".embedding_length", config.hidden_size);
  keys.count(arch + ".feed_forward_length", config.intermediate_size);
  keys.count(arch + ".attention.head_count", config.num_heads);
  keys.count(arch + ".attention.head_count_kv", config.num_kv_heads);
  keys.real(arch + ".attention.layer_norm_rms_epsilon", config.rms_norm_eps);
  keys.count(arch + ".attention.key_length", config.head_dim);
  keys.count(arch + ".attention.value_length", config.head_dim);
  // The loader needs it for a file without tokens.
  if (arch == "llama" || inputs.vocabulary == nullptr)
    keys.count(arch + ".vocab_size", config.vocab_size);
  add_rope(arch, config, keys);
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
  throw Error(ErrorKind::kInput, "",
              fmt::format("the tokenizer gives {} tokens and {} token types, the embedding has {} "
                          "rows: GGUF needs as many of each",
                          tokens, vocabulary.types.size(), embedding_rows));
}

void add_tokens(const text::Vocabulary& vocabulary, Keys& keys) {
  using Kind = text::Vocabulary::Kind;
  const bool sentencepiece = vocabulary.kind == Kind::kSentencePiece;
  keys.text("tokenizer.ggml.model", sentencepiece ? "llama" : "gpt2");
  keys.text("tokenizer.ggml.pre", vocabulary.pre);
  keys.list("tokenizer.ggml.tokens", vocabulary.tokens);
  if (sentencepiece) keys.list("tokenizer.ggml.scores", vocabulary.scores);
  std::vector<std::int32_t> types;
  for (const auto type : vocabulary.types) types.push_back(static_cast<std::int32_t>(type));
  keys.list("tokenizer.ggml.token_type", std::move(types));
  if (!sentencepiece) keys.list("tokenizer.ggml.merges", vocabulary.merges);
}

void add_tokenizer(const ExportPlan& plan, const WriterInputs& inputs, Keys& keys) {
  if (inputs.vocabulary == nullptr) {
    keys.text("tokenizer.ggml.model", "none");
    return;
  }
  text::Vocabulary vocabulary = *inputs.vocabulary;
  if (!plan.request.pre.empty()) vocabulary.pre = plan.request.pre;
  require_matching_size(vocabulary, inputs.family.embedding.shape[0]);
  add_tokens(vocabulary, keys);
  for (const auto& [name, id] : vocabulary.special_ids) keys.count(id_key(name), id);
  if (vocabulary.add_bos) keys.flag("tokenizer.ggml.add_bos_token", *vocabulary.add_bos);
  if (vocabulary.add_eos) keys.flag("tokenizer.ggml.add_eos_token", *vocabulary.add_eos);
  if (vocabulary.add_space_prefix)
    keys.flag("tokenizer.ggml.add_space_prefix", *vocabulary.add_space_prefix);
  if (!vocabulary.chat_template.empty())
    keys.text("tokenizer.chat_template", vocabulary.chat_template);
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
  Keys keys;
  add_general(plan, inputs, keys);
  add_architecture(inputs, keys);
  add_tokenizer(plan, inputs, keys);
  return keys.take();
}

}  // namespace calque::artifact
