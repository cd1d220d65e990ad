#include "calque/text/tokenizer.h"

#include <fmt/format.h>

#include <set>

#include "calque/core/error.h"
#include "calque/io/file.h"
#include "calque/io/json.h"
#include "text/gguf_tokenizer.h"
#include "text/json_tokenizer.h"
#include "text/sentencepiece_tokenizer.h"
#include "text/side_tokens.h"
#include "text/vocabulary_parts.h"

namespace calque::text {

std::unique_ptr<Tokenizer> load_tokenizer(const std::filesystem::path& model) {
  if (is_gguf(model)) return load_gguf_tokenizer(model);
  const bool pieces = has_pieces(model);
  if (std::filesystem::exists(model / "tokenizer.json"))
    return load_json_tokenizer(model / "tokenizer.json");
  if (pieces) return load_sentencepiece_tokenizer(model);
  throw Error(ErrorKind::kInput, "E213",
              fmt::format("{}: has neither tokenizer.json nor tokenizer.model. Copy the tokenizer "
                          "files of the model there, or give token ids in place of text.",
                          model.string()));
}

namespace {

// Adds a number, or a list of numbers.
void add_ids(const io::Json* value, std::set<std::int32_t>& ids) {
  if (value == nullptr) return;
  if (value->is_integer()) ids.insert(value->get<std::int32_t>());
  for (const io::Json& id : value->is_array() ? value->elements() : io::Json::Array())
    if (id.is_integer()) ids.insert(id.get<std::int32_t>());
}

void add_ids_of_file(const std::filesystem::path& file, std::set<std::int32_t>& ids) {
  if (!std::filesystem::exists(file)) return;
  const io::Json json = io::read_json(file);
  add_ids(json.find("eos_token_id"), ids);
  if (const io::Json* inner = json.find("text_config")) add_ids(inner->find("eos_token_id"), ids);
}

}  // namespace

TokenIds end_tokens(const std::filesystem::path& model, const Tokenizer& tokenizer) {
  std::set<std::int32_t> ids;
  if (is_gguf(model)) {
    const Vocabulary vocabulary = gguf_vocabulary(model);
    for (const char* name : {"eos", "eot", "eom"})
      if (const auto id = vocabulary.special_ids.find(name); id != vocabulary.special_ids.end())
        ids.insert(id->second);
  } else {
    add_ids_of_file(model / "config.json", ids);
    add_ids_of_file(model / "generation_config.json", ids);
    const io::Json settings = tokenizer_settings(model);
    const io::Json* eos = settings.find("eos_token");
    if (eos != nullptr && eos->is_object()) eos = eos->find("content");
    if (eos != nullptr && eos->is_string())
      if (const auto id = tokenizer.id_of(eos->string())) ids.insert(*id);
  }
  return {ids.begin(), ids.end()};
}

bool has_tokenizer(const std::filesystem::path& model) {
  if (is_gguf(model)) return gguf_has_tokenizer(model);
  io::refuse_placeholder(model / "tokenizer.json");
  io::refuse_placeholder(model / "tokenizer.model");
  return std::filesystem::exists(model / "tokenizer.json") ||
         std::filesystem::exists(model / "tokenizer.model");
}

}  // namespace calque::text
