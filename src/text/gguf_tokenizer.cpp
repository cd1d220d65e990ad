#include "text/gguf_tokenizer.h"

#include <algorithm>
#include <unordered_set>

#include "calque/core/error.h"
#include "text/json_tokenizer.h"
#include "text/pre_name.h"
#include "text/token_kinds.h"
#include "text/vocabulary_readers.h"

namespace calque::text {
namespace {

using TokenType = Vocabulary::TokenType;
using Json = io::Json;

Json special_item(const char* name) { return {{"SpecialToken", {{"id", name}, {"type_id", 0}}}}; }

// The flags that are not in the file are the ones that llama.cpp takes for this pre-tokenizer.
Json post_processor(const Vocabulary& vocabulary, bool bos_by_default) {
  Json items = Json::array({{{"Sequence", {{"id", "A"}, {"type_id", 0}}}}});
  Json ids = Json::object();
  const auto add = [&](const char* name, bool wanted, bool in_front) {
    const auto id = vocabulary.special_ids.find(name);
    if (!wanted || id == vocabulary.special_ids.end()) return;
    Json::Array& list = items.elements();
    list.insert(in_front ? list.begin() : list.end(), special_item(name));
    ids[name] = {{"id", name}, {"ids", Json::array({id->second})}, {"tokens", Json::array({name})}};
  };
  add("bos", vocabulary.add_bos.value_or(bos_by_default), true);
  add("eos", vocabulary.add_eos.value_or(false), false);
  return {{"type", "TemplateProcessing"}, {"single", items}, {"special_tokens", ids}};
}

// All tokens are in the model's vocabulary, added ones too: there their ids need not come last. No
// merge makes them. What merely pads the embedding is left out.
Json model_json(const Vocabulary& vocabulary, bool ignore_merges) {
  Json ids = Json::object();
  std::unordered_set<std::string_view> seen;
  for (std::size_t id = 0; id < vocabulary.tokens.size(); ++id)
    if (vocabulary.types[id] != TokenType::kUnused && seen.insert(vocabulary.tokens[id]).second)
      ids.append(vocabulary.tokens[id], id);
  return {{"type", "BPE"},
          {"vocab", ids},
          {"merges", vocabulary.merges},
          {"ignore_merges", ignore_merges}};
}

Json added_tokens(const Vocabulary& vocabulary) {
  Json list = Json::array();
  for (std::size_t id = 0; id < vocabulary.tokens.size(); ++id) {
    const TokenType type = vocabulary.types[id];
    if (type != TokenType::kControl && type != TokenType::kUserDefined) continue;
    list.push_back({{"id", id},
                    {"content", vocabulary.tokens[id]},
                    {"special", type == TokenType::kControl},
                    {"normalized", false},
                    {"lstrip", false},
                    {"rstrip", false},
                    {"single_word", false}});
  }
  return list;
}

}  // namespace

// As the tokenizer.json that says the same.
std::unique_ptr<Tokenizer> byte_level_tokenizer(const Vocabulary& vocabulary,
                                                const std::string& name) {
  const PreTokenizerFacts facts = pre_tokenizer_named(vocabulary.pre, name);
  const Json document = {
      {"normalizer", facts.composes ? Json{{"type", "NFC"}} : Json(nullptr)},
      {"pre_tokenizer", facts.pre_tokenizer},
      {"post_processor", post_processor(vocabulary, facts.adds_bos)},
      {"model", model_json(vocabulary, facts.ignore_merges)},
      {"added_tokens", added_tokens(vocabulary)},
  };
  return make_json_tokenizer(document, name);
}

std::unique_ptr<Tokenizer> load_gguf_tokenizer(const std::filesystem::path& file) {
  const Vocabulary vocabulary = gguf_vocabulary(file);
  const std::string name = file.filename().string();
  if (vocabulary.kind == Vocabulary::Kind::kByteLevelBpe)
    return byte_level_tokenizer(vocabulary, name);
  return with_context(file.string(), [&] { return piece_tokenizer(vocabulary, name); });
}

}  // namespace calque::text
