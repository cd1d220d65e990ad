// Tokenizer files of a model folder, made from a GGUF file's vocabulary.
#include <algorithm>

#include "calque/io/json.h"
#include "calque/text/vocabulary.h"
#include "text/gguf_tokenizer.h"

namespace calque::text {
namespace {

using io::Json;
using TokenType = Vocabulary::TokenType;

// Files of pieces need no key for the unknown token: its type says which it is.
Json unknown_token(const Vocabulary& vocabulary) {
  const auto unknown =
      std::find(vocabulary.types.begin(), vocabulary.types.end(), TokenType::kUnknown);
  if (unknown == vocabulary.types.end()) return nullptr;
  return vocabulary.tokens[static_cast<std::size_t>(unknown - vocabulary.types.begin())];
}

Json token_at(const Vocabulary& vocabulary, const std::string& name) {
  const auto id = vocabulary.special_ids.find(name);
  if (id == vocabulary.special_ids.end() && name == "unknown") return unknown_token(vocabulary);
  return id == vocabulary.special_ids.end()
             ? Json(nullptr)
             : Json(vocabulary.tokens[static_cast<std::size_t>(id->second)]);
}

bool is_declared(const Vocabulary& vocabulary, std::size_t id) {
  if (vocabulary.kind == Vocabulary::Kind::kSentencePiece) return is_added(vocabulary, id);
  return vocabulary.types[id] == TokenType::kControl ||
         vocabulary.types[id] == TokenType::kUserDefined;
}

Json added_tokens_decoder(const Vocabulary& vocabulary) {
  Json decoder = Json::object();
  const std::size_t count = without_padding(vocabulary);
  for (std::size_t id = 0; id < count; ++id)
    if (is_declared(vocabulary, id))
      decoder.append(std::to_string(id),
                     {{"content", vocabulary.tokens[id]},
                      {"lstrip", false},
                      {"normalized", false},
                      {"rstrip", false},
                      {"single_word", false},
                      {"special", vocabulary.types[id] != TokenType::kUserDefined}});
  return decoder;
}

// One template is text; several are a list, of which readers take the one named "default".
Json chat_templates(const Vocabulary& vocabulary) {
  if (vocabulary.named_templates.empty())
    return vocabulary.chat_template.empty() ? Json(nullptr) : Json(vocabulary.chat_template);
  Json list = Json::array();
  if (!vocabulary.chat_template.empty())
    list.push_back({{"name", "default"}, {"template", vocabulary.chat_template}});
  for (const auto& [name, text] : vocabulary.named_templates)
    list.push_back({{"name", name}, {"template", text}});
  return list;
}

// Classes of SentencePiece models in transformers: they differ in what they do to spaces.
void add_class(const Vocabulary& vocabulary, Json& config) {
  if (vocabulary.kind == Vocabulary::Kind::kByteLevelBpe) {
    config["tokenizer_class"] = "PreTrainedTokenizerFast";
    return;
  }
  const bool prefix = vocabulary.add_space_prefix.value_or(true);
  config["tokenizer_class"] = prefix ? "LlamaTokenizer" : "GemmaTokenizer";
  config["add_bos_token"] = vocabulary.add_bos.value_or(true);
  config["add_eos_token"] = vocabulary.add_eos.value_or(false);
  if (prefix) config["legacy"] = true;  // text after a special token gets a space in front, too
}

std::string tokenizer_config(const Vocabulary& vocabulary, std::int64_t max_positions) {
  Json config = Json::object();
  add_class(vocabulary, config);
  constexpr std::pair<const char*, const char*> kSpecial[] = {{"bos_token", "bos"},
                                                              {"eos_token", "eos"},
                                                              {"unk_token", "unknown"},
                                                              {"pad_token", "padding"}};
  for (const auto& [key, name] : kSpecial) config[key] = token_at(vocabulary, name);
  config["added_tokens_decoder"] = added_tokens_decoder(vocabulary);
  config["clean_up_tokenization_spaces"] = false;
  config["model_max_length"] = max_positions;
  if (Json templates = chat_templates(vocabulary); !templates.is_null())
    config["chat_template"] = std::move(templates);
  return config.dump(2) + "\n";
}

// Readers of GGUF files stop at each of these tokens.
std::string generation_config(const Vocabulary& vocabulary) {
  Json config = Json::object();
  const auto id_of = [&](const char* name) { return vocabulary.special_ids.find(name); };
  const auto none = vocabulary.special_ids.end();
  if (id_of("bos") != none) config["bos_token_id"] = id_of("bos")->second;
  Json ends = Json::array();
  for (const char* name : {"eos", "eot", "eom"}) {
    if (id_of(name) == none) continue;
    const Json id(id_of(name)->second);
    const Json::Array& there = ends.elements();
    if (std::find(there.begin(), there.end(), id) == there.end()) ends.push_back(id);
  }
  if (ends.size() > 0) config["eos_token_id"] = ends.size() == 1 ? Json(ends.at(0)) : ends;
  if (id_of("padding") != none) config["pad_token_id"] = id_of("padding")->second;
  return config.dump(2) + "\n";
}

}  // namespace

TokenizerFiles tokenizer_files(const Vocabulary& vocabulary, const std::string& name,
                               std::int64_t max_positions) {
  TokenizerFiles files;
  if (vocabulary.kind == Vocabulary::Kind::kByteLevelBpe)
    files.emplace_back("tokenizer.json", byte_level_json(vocabulary, name).dump() + "\n");
  else
    files.emplace_back("tokenizer.model", piece_model(vocabulary));
  files.emplace_back("tokenizer_config.json", tokenizer_config(vocabulary, max_positions));
  files.emplace_back("generation_config.json", generation_config(vocabulary));
  return files;
}

}  // namespace calque::text
