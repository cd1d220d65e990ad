#include <fmt/format.h>

#include <cmath>

#include "calque/core/error.h"
#include "calque/core/names.h"
#include "calque/io/gguf.h"
#include "text/bpe.h"
#include "text/gguf_tokenizer.h"
#include "text/vocabulary_readers.h"

namespace calque::text {
namespace {

using TokenType = Vocabulary::TokenType;

constexpr std::string_view kPrefix = "tokenizer.ggml.";
constexpr std::string_view kModelKey = "tokenizer.ggml.model";

[[noreturn]] void refuse(const io::GgufFile& file, const std::string& reason,
                         const char* code = "") {
  throw Error(ErrorKind::kInput, code, file.path().string() + ": " + reason);
}

// Null if there is no such key; one that is no array of T is refused.
template <typename T>
const std::vector<T>* find_list(const io::GgufFile& file, const std::string& name) {
  const std::string key = std::string(kPrefix) + name;
  const io::GgufValue* value = file.find(key);
  if (value == nullptr) return nullptr;
  const auto* array = std::get_if<io::GgufValue::Array>(&value->value);
  const auto* list = array != nullptr ? std::get_if<std::vector<T>>(array) : nullptr;
  if (list == nullptr) refuse(file, fmt::format("key '{}' is no list of the right type", key));
  return list;
}

void require_one_each(const io::GgufFile& file, const char* name, std::size_t count,
                      std::size_t tokens) {
  if (count != tokens)
    refuse(file,
           fmt::format("key '{}{}' has {} entries for {} tokens", kPrefix, name, count, tokens));
}

void read_tokens(const io::GgufFile& file, Vocabulary& vocabulary) {
  const auto* tokens = find_list<std::string>(file, "tokens");
  if (tokens == nullptr) refuse(file, "key 'tokenizer.ggml.tokens' is missing");
  if (tokens->size() > static_cast<std::size_t>(kMaxTokenId))
    refuse(file, fmt::format("{} tokens, at most {} can be read", tokens->size(), kMaxTokenId));
  vocabulary.tokens = *tokens;
}

void read_types(const io::GgufFile& file, Vocabulary& vocabulary) {
  const std::size_t count = vocabulary.tokens.size();
  vocabulary.types.assign(count, TokenType::kNormal);
  const auto* types = find_list<std::int32_t>(file, "token_type");
  if (types == nullptr) return;
  require_one_each(file, "token_type", types->size(), count);
  for (std::size_t id = 0; id < count; ++id) {
    const std::int32_t type = (*types)[id];
    if (type < 1 || type > 6)
      refuse(file, fmt::format("token {} is of type {}, expected 1 to 6", id, type));
    vocabulary.types[id] = static_cast<TokenType>(type);
  }
}

void read_scores(const io::GgufFile& file, Vocabulary& vocabulary) {
  const auto* scores = find_list<float>(file, "scores");
  if (scores == nullptr) refuse(file, "key 'tokenizer.ggml.scores' is missing");
  require_one_each(file, "scores", scores->size(), vocabulary.tokens.size());
  for (std::size_t id = 0; id < scores->size(); ++id)
    if (!std::isfinite((*scores)[id]))
      refuse(file, fmt::format("token {} has the score {}", id, (*scores)[id]));
  vocabulary.scores = *scores;
}

void read_merges(const io::GgufFile& file, Vocabulary& vocabulary) {
  const auto* merges = find_list<std::string>(file, "merges");
  if (merges == nullptr) refuse(file, "key 'tokenizer.ggml.merges' is missing");
  vocabulary.merges = *merges;
}

// "tokenizer.ggml.bos_token_id": "bos". An id beyond the tokens means that there is none.
void read_ids(const io::GgufFile& file, Vocabulary& vocabulary) {
  constexpr std::string_view kEnding = "_token_id";
  for (const auto& [key, value] : file.metadata()) {
    if (!key.starts_with(kPrefix) || !key.ends_with(kEnding)) continue;
    if (key.size() <= kPrefix.size() + kEnding.size()) continue;
    const std::int64_t id = *file.integer(key);
    if (id < 0 || std::cmp_greater_equal(id, vocabulary.tokens.size())) continue;
    const std::size_t length = key.size() - kPrefix.size() - kEnding.size();
    vocabulary.special_ids[key.substr(kPrefix.size(), length)] = static_cast<std::int32_t>(id);
  }
}

Vocabulary::Kind kind_of(const io::GgufFile& file) {
  const std::string model = file.string(kModelKey).value_or("none");
  if (model == "llama") return Vocabulary::Kind::kSentencePiece;
  if (model == "gpt2") return Vocabulary::Kind::kByteLevelBpe;
  if (model == "none")
    refuse(file,
           "the file holds no tokenizer (tokenizer.ggml.model is missing or \"none\"). Give token "
           "ids in place of text, or a file that was converted with its tokenizer.");
  refuse(file,
         fmt::format("tokenizer.ggml.model {} is not implemented; calque reads \"llama\" "
                     "(SentencePiece's BPE) and \"gpt2\" (byte-level BPE). Give token ids in place "
                     "of text.",
                     quote_name(model)),
         "E211");
}

}  // namespace

Vocabulary gguf_vocabulary(const std::filesystem::path& path) {
  const io::GgufFile file(io::gguf_entry_of(path));
  Vocabulary vocabulary;
  vocabulary.kind = kind_of(file);
  vocabulary.pre = file.string("tokenizer.ggml.pre").value_or("default");
  read_tokens(file, vocabulary);
  read_types(file, vocabulary);
  if (vocabulary.kind == Vocabulary::Kind::kSentencePiece)
    read_scores(file, vocabulary);
  else
    read_merges(file, vocabulary);
  read_ids(file, vocabulary);
  vocabulary.add_bos = file.boolean("tokenizer.ggml.add_bos_token");
  vocabulary.add_eos = file.boolean("tokenizer.ggml.add_eos_token");
  vocabulary.add_space_prefix = file.boolean("tokenizer.ggml.add_space_prefix");
  vocabulary.chat_template = file.string("tokenizer.chat_template").value_or("");
  return vocabulary;
}

bool is_gguf(const std::filesystem::path& model) {
  return std::filesystem::is_regular_file(io::gguf_entry_of(model));
}

bool gguf_has_tokenizer(const std::filesystem::path& path) {
  const io::GgufFile file(io::gguf_entry_of(path));
  return file.string(kModelKey).value_or("none") != "none";
}

}  // namespace calque::text
