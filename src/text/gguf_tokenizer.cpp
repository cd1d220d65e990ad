#include "text/gguf_tokenizer.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <unordered_map>
#include <unordered_set>

#include "calque/core/error.h"
#include "calque/core/names.h"
#include "calque/io/gguf.h"
#include "text/bpe.h"
#include "text/json_tokenizer.h"
#include "text/pieces.h"
#include "text/pre_name.h"
#include "text/sentencepiece_tokenizer.h"
#include "text/vocabulary_parts.h"

namespace calque::text {

// ---- The vocabulary of a file

namespace {

using TokenType = Vocabulary::TokenType;

constexpr std::string_view kPrefix = "tokenizer.ggml.";
constexpr std::string_view kModelKey = "tokenizer.ggml.model";
constexpr std::string_view kPiecesByMerges = "gemma4";

[[noreturn]] void refuse(const io::GgufFile& file, const std::string& reason,
                         const char* code = "") {
  throw Error(ErrorKind::kInput, code, file.path().string() + ": " + reason);
}

// Null if there is no such key; throws if it is not an array of T.
template <typename T>
const std::vector<T>* find_list(const io::GgufFile& file, const std::string& name) {
  const std::string key = std::string(kPrefix) + name;
  const io::GgufValue* value = file.find(key);
  if (value == nullptr) return nullptr;
  const auto* array = std::get_if<io::GgufValue::Array>(&value->value);
  const auto* list = array != nullptr ? std::get_if<std::vector<T>>(array) : nullptr;
  if (list == nullptr) refuse(file, fmt::format("key '{}' is not a list of the right type", key));
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

// Scores of pieces whose file has merges; all of its own scores are equal.
void score_by_merges(Vocabulary& vocabulary) {
  std::unordered_map<std::string_view, std::int32_t> ids;
  for (std::size_t id = 0; id < vocabulary.tokens.size(); ++id)
    ids.emplace(vocabulary.tokens[id], static_cast<std::int32_t>(id));
  std::vector<std::int32_t> merged;
  for (const std::string& merge : vocabulary.merges) {
    std::string joined = merge;
    const std::size_t space = joined.find(' ', 1);
    if (space != std::string::npos) joined.erase(space, 1);
    const auto id = ids.find(joined);
    merged.push_back(id == ids.end() ? -1 : id->second);
  }
  score_by_rank(merged, vocabulary);
}

// Maps "tokenizer.ggml.bos_token_id" to "bos". An id beyond the tokens counts as none.
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
  if (model == "llama" || model == kPiecesByMerges) return Vocabulary::Kind::kSentencePiece;
  if (model == "gpt2") return Vocabulary::Kind::kByteLevelBpe;
  if (model == "none")
    refuse(file,
           "the file holds no tokenizer (tokenizer.ggml.model is missing or \"none\"). Give token "
           "ids in place of text, or a file that was converted with its tokenizer.");
  refuse(file,
         fmt::format("tokenizer.ggml.model {} is not implemented; calque reads \"llama\" "
                     "(SentencePiece's BPE), \"gemma4\" (the same with merges) and \"gpt2\" "
                     "(byte-level BPE). Give token ids in place of text.",
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
  const bool by_merges = file.string(kModelKey) == kPiecesByMerges;
  if (vocabulary.kind == Vocabulary::Kind::kByteLevelBpe || by_merges)
    read_merges(file, vocabulary);
  else
    read_scores(file, vocabulary);
  if (by_merges) score_by_merges(vocabulary);
  read_ids(file, vocabulary);
  vocabulary.add_bos = file.boolean("tokenizer.ggml.add_bos_token");
  vocabulary.add_eos = file.boolean("tokenizer.ggml.add_eos_token");
  vocabulary.add_space_prefix = file.boolean("tokenizer.ggml.add_space_prefix");
  vocabulary.chat_template = file.string("tokenizer.chat_template").value_or("");
  constexpr std::string_view kNamed = "tokenizer.chat_template.";
  for (const auto& [key, value] : file.metadata())
    if (key.starts_with(kNamed))
      vocabulary.named_templates.emplace(key.substr(kNamed.size()), file.string(key).value_or(""));
  return vocabulary;
}

bool is_gguf(const std::filesystem::path& model) {
  return std::filesystem::is_regular_file(io::gguf_entry_of(model));
}

bool gguf_has_tokenizer(const std::filesystem::path& path) {
  const io::GgufFile file(io::gguf_entry_of(path));
  return file.string(kModelKey).value_or("none") != "none";
}

// ---- A tokenizer with scored pieces

// Converters give this score to tokens that are cut out before the model sees the text. Tokens that
// the model itself declares as user-defined keep their own scores.
bool is_added(const Vocabulary& vocabulary, std::size_t id) {
  const TokenType type = vocabulary.types[id];
  if (type == TokenType::kUserDefined) return vocabulary.scores[id] <= kAddedScore;
  return type == TokenType::kControl || type == TokenType::kUnknown;
}

std::size_t without_padding(const Vocabulary& vocabulary) {
  std::size_t count = vocabulary.tokens.size();
  while (count > 0 && vocabulary.types[count - 1] == TokenType::kUnused &&
         vocabulary.tokens[count - 1] == pad_token(count - 1))
    --count;
  return count;
}

namespace {

using TokenType = Vocabulary::TokenType;

void put_varint(std::string& message, std::uint64_t value) {
  for (; value >= 0x80; value >>= 7) message += static_cast<char>((value & 0x7F) | 0x80);
  message += static_cast<char>(value);
}

void put_number(std::string& message, unsigned field, std::uint64_t value) {
  put_varint(message, field << 3);
  put_varint(message, value);
}

void put_float(std::string& message, unsigned field, float value) {
  put_varint(message, field << 3 | 5);
  const auto bits = std::bit_cast<std::uint32_t>(value);
  for (int shift = 0; shift < 32; shift += 8) message += static_cast<char>(bits >> shift & 0xFF);
}

void put_bytes(std::string& message, unsigned field, std::string_view bytes) {
  put_varint(message, field << 3 | 2);
  put_varint(message, bytes.size());
  message += bytes;
}

std::string with_metaspaces(const std::string& text) {
  std::string result;
  for (const char c : text) c == ' ' ? result += kMetaspaceMark : result += c;
  return result;
}

// An added token that is not special is one to the library only if it is a control token there.
std::string piece_message(const Vocabulary& vocabulary, std::size_t id, bool hides_added) {
  const TokenType type = vocabulary.types[id];
  const bool hidden = hides_added && type == TokenType::kUserDefined && is_added(vocabulary, id);
  std::string piece;
  put_bytes(piece, 1, with_metaspaces(vocabulary.tokens[id]));
  put_float(piece, 2, vocabulary.scores[id]);
  put_number(piece, 3, static_cast<std::uint64_t>(hidden ? TokenType::kControl : type));
  return piece;
}

// Special tokens are named by id and by piece; readers differ in which they use.
void put_specials(const Vocabulary& vocabulary, std::string& trainer) {
  constexpr std::array<std::pair<const char*, unsigned>, 4> kIds = {
      {{"unknown", 40}, {"bos", 41}, {"eos", 42}, {"padding", 43}}};
  constexpr unsigned kPieces = 5;  // pieces have the fields 45 to 48
  for (const auto& [name, field] : kIds) {
    const auto id = vocabulary.special_ids.find(name);
    if (id == vocabulary.special_ids.end()) continue;
    put_number(trainer, field, static_cast<std::uint64_t>(id->second));
    put_bytes(trainer, field + kPieces, vocabulary.tokens[static_cast<std::size_t>(id->second)]);
  }
}

std::string trainer_message(const Vocabulary& vocabulary) {
  const bool bytes =
      std::count(vocabulary.types.begin(), vocabulary.types.end(), TokenType::kByte) > 0;
  std::string trainer;
  put_number(trainer, 3, static_cast<std::uint64_t>(SentencePieceModel::Algorithm::kBpe));
  put_number(trainer, 35, bytes ? 1 : 0);  // byte_fallback
  put_specials(vocabulary, trainer);
  return trainer;
}

// No change of the text except spaces, as readers of these files handle it.
std::string normalizer_message(const Vocabulary& vocabulary) {
  std::string normalizer;
  put_bytes(normalizer, 1, "identity");
  put_number(normalizer, 3, vocabulary.add_space_prefix.value_or(true) ? 1 : 0);
  put_number(normalizer, 4, 0);  // remove_extra_whitespaces
  put_number(normalizer, 5, 1);  // escape_whitespaces
  return normalizer;
}

std::string serialized_model(const Vocabulary& vocabulary, std::size_t count, bool hides_added) {
  std::string model;
  for (std::size_t id = 0; id < count; ++id)
    put_bytes(model, 1, piece_message(vocabulary, id, hides_added));
  put_bytes(model, 2, trainer_message(vocabulary));
  put_bytes(model, 3, normalizer_message(vocabulary));
  return model;
}

std::vector<AddedToken> added_tokens(const Vocabulary& vocabulary, std::size_t count) {
  std::vector<AddedToken> added;
  for (std::size_t id = 0; id < count; ++id)
    if (is_added(vocabulary, id))
      added.push_back({.id = static_cast<std::int32_t>(id),
                       .content = vocabulary.tokens[id],
                       .special = vocabulary.types[id] != TokenType::kUserDefined});
  return added;
}

TokenIds special_ids(const Vocabulary& vocabulary, const char* name, bool wanted) {
  const auto id = vocabulary.special_ids.find(name);
  if (!wanted || id == vocabulary.special_ids.end()) return {};
  return {id->second};
}

void require_an_unknown_token(const Vocabulary& vocabulary) {
  if (std::count(vocabulary.types.begin(), vocabulary.types.end(), TokenType::kUnknown) != 1)
    throw Error(ErrorKind::kInput, "E211",
                "the tokenizer needs exactly one unknown token (tokenizer.ggml.token_type 2)");
}

}  // namespace

std::string piece_model(const Vocabulary& vocabulary) {
  require_an_unknown_token(vocabulary);
  return serialized_model(vocabulary, without_padding(vocabulary), false);
}

std::unique_ptr<Tokenizer> piece_tokenizer(const Vocabulary& vocabulary, const std::string& name) {
  require_an_unknown_token(vocabulary);
  const std::size_t count = without_padding(vocabulary);
  // Flags missing in the file get llama.cpp's defaults.
  return make_sentencepiece_tokenizer(
      parse_sentencepiece_model(serialized_model(vocabulary, count, true)),
      added_tokens(vocabulary, count),
      {.prefix = special_ids(vocabulary, "bos", vocabulary.add_bos.value_or(true)),
       .suffix = special_ids(vocabulary, "eos", vocabulary.add_eos.value_or(false))},
      name);
}

// ---- Loading

namespace {

using TokenType = Vocabulary::TokenType;
using Json = io::Json;

Json special_item(const std::string& token, int type_id) {
  return {{"SpecialToken", {{"id", token}, {"type_id", type_id}}}};
}

// Flags missing in the file get llama.cpp's defaults for this pre-tokenizer.
Json post_processor(const Vocabulary& vocabulary, bool bos_by_default) {
  Json single = Json::array(), pair = Json::array(), tokens = Json::object();
  const auto add = [&](const char* name, bool wanted, Json& items, int type_id) {
    const auto id = vocabulary.special_ids.find(name);
    if (!wanted || id == vocabulary.special_ids.end()) return;
    const std::string& token = vocabulary.tokens[static_cast<std::size_t>(id->second)];
    items.push_back(special_item(token, type_id));
    tokens[token] = {
        {"id", token}, {"ids", Json::array({id->second})}, {"tokens", Json::array({token})}};
  };
  const auto add_text = [&](const char* text, Json& items, int type_id) {
    add("bos", vocabulary.add_bos.value_or(bos_by_default), items, type_id);
    items.push_back({{"Sequence", {{"id", text}, {"type_id", type_id}}}});
    add("eos", vocabulary.add_eos.value_or(false), items, type_id);
  };
  add_text("A", single, 0);
  add_text("A", pair, 0);
  add_text("B", pair, 1);
  return {{"type", "TemplateProcessing"},
          {"single", single},
          {"pair", pair},
          {"special_tokens", tokens}};
}

// All tokens are in the model's vocabulary, including added ones, so that their ids need not come
// last; no merge makes them. Tokens that only pad the embedding are left out.
Json model_json(const Vocabulary& vocabulary, bool ignore_merges) {
  Json ids = Json::object();
  std::unordered_set<std::string_view> seen;
  for (std::size_t id = 0; id < vocabulary.tokens.size(); ++id)
    if (vocabulary.types[id] != TokenType::kUnused && seen.insert(vocabulary.tokens[id]).second)
      ids.append(vocabulary.tokens[id], id);
  return {{"type", "BPE"},
          {"dropout", nullptr},
          {"unk_token", nullptr},
          {"continuing_subword_prefix", nullptr},
          {"end_of_word_suffix", nullptr},
          {"fuse_unk", false},
          {"byte_fallback", false},
          {"ignore_merges", ignore_merges},
          {"vocab", ids},
          {"merges", vocabulary.merges}};
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

io::Json byte_level_json(const Vocabulary& vocabulary, const std::string& name) {
  const PreTokenizerFacts facts = pre_tokenizer_named(vocabulary.pre, name);
  return {{"version", "1.0"},
          {"truncation", nullptr},
          {"padding", nullptr},
          {"added_tokens", added_tokens(vocabulary)},
          {"normalizer", facts.composes ? Json{{"type", "NFC"}} : Json(nullptr)},
          {"pre_tokenizer", facts.pre_tokenizer},
          {"post_processor", post_processor(vocabulary, facts.adds_bos)},
          {"decoder",
           {{"type", "ByteLevel"},
            {"add_prefix_space", true},
            {"trim_offsets", true},
            {"use_regex", true}}},
          {"model", model_json(vocabulary, facts.ignore_merges)}};
}

std::unique_ptr<Tokenizer> byte_level_tokenizer(const Vocabulary& vocabulary,
                                                const std::string& name) {
  return make_json_tokenizer(byte_level_json(vocabulary, name), name);
}

std::unique_ptr<Tokenizer> load_gguf_tokenizer(const std::filesystem::path& file) {
  const Vocabulary vocabulary = gguf_vocabulary(file);
  const std::string name = file.filename().string();
  if (vocabulary.kind == Vocabulary::Kind::kByteLevelBpe)
    return byte_level_tokenizer(vocabulary, name);
  return with_context(file.string(), [&] { return piece_tokenizer(vocabulary, name); });
}

}  // namespace calque::text
