#include "formats/gguf_metadata.h"

#include <fmt/format.h>

#include <array>
#include <cmath>

#include "formats/gguf_carried.h"
#include "formats/gguf_keys.h"
#include "formats/gguf_mix.h"
#include "calque/core/error.h"

namespace calque::formats {
namespace {

double weight_count(const ExportPlan& plan) {
  double count = 0;
  for (const TensorPlan& planned : plan.tensors) {
    double elements = 1;
    for (const Index n : planned.tensor.shape) elements *= static_cast<double>(n);
    count += elements;
  }
  return count;
}

// As llama-quantize notes it.
void add_imatrix(const ImatrixNote& note, GgufKeys& keys) {
  keys.text("quantize.imatrix.file", note.file);
  keys.text("quantize.imatrix.dataset", note.dataset);
  keys.count("quantize.imatrix.entries_count", note.entries);
  keys.count("quantize.imatrix.chunks_count", note.chunks);
}

// A model on the hub has an organization; another name is a local one.
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
  throw Error(ErrorKind::kInput, "",
              fmt::format("the tokenizer gives {} tokens and {} token types, the embedding has {} "
                          "rows: GGUF needs as many of each",
                          tokens, vocabulary.types.size(), embedding_rows));
}

void add_tokens(const text::Vocabulary& vocabulary, GgufKeys& keys) {
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
  GgufKeys keys;
  add_general(plan, inputs, keys);
  add_architecture_keys(inputs, keys);
  add_tokenizer(plan, inputs, keys);
  return keys.take();
}

}  // namespace calque::formats
