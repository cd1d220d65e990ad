#include "text/sentencepiece_tokenizer.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <map>

#include "calque/core/error.h"
#include "calque/core/names.h"
#include "text/bpe.h"
#include "text/sentencepiece/encoder.h"
#include "text/string_map.h"
#include "text/unicode.h"

namespace calque::text {

// ---- Tokens added by other files

namespace {

constexpr std::array<const char*, 7> kNamedTokens = {
    "bos_token", "eos_token", "unk_token", "pad_token", "sep_token", "cls_token", "mask_token"};
using TokensById = std::map<std::int32_t, AddedToken>;

std::int32_t id_from_key(const JsonNode& decoder, const std::string& key) {
  std::int32_t id = -1;
  const auto [end, error] = std::from_chars(key.data(), key.data() + key.size(), id);
  if (error != std::errc() || end != key.data() + key.size() || id < 0 || id > kMaxTokenId)
    decoder.refuse(fmt::format("{} is not a token id", quote_name(key)));
  return id;
}

void read_decoder(const JsonNode& config, TokensById& tokens) {
  if (!config.has("added_tokens_decoder")) return;
  const JsonNode decoder = config.at("added_tokens_decoder");
  decoder.for_each_member([&](const std::string& key, const JsonNode& token) {
    const std::int32_t id = id_from_key(decoder, key);
    tokens.emplace(id, read_added_token(token, id));
  });
}

// {"token": id}: the older form, without flags.
void read_plain_list(const JsonNode& list, TokensById& tokens) {
  list.for_each_member([&](const std::string& content, const JsonNode& value) {
    const auto id = static_cast<std::int32_t>(value.integer(0, kMaxTokenId));
    tokens.emplace(id, AddedToken{.id = id, .content = content});
  });
}

std::int32_t id_of(const std::string& content, const TokensById& tokens,
                   const SentencePieceModel& model) {
  for (const auto& [id, token] : tokens)
    if (token.content == content) return id;
  return model.find(content);
}

void add_special(const JsonNode& entry, const SentencePieceModel& model, TokensById& tokens) {
  const std::string& content =
      entry.value().is_object() ? entry.at("content").string() : entry.string();
  const std::int32_t id = id_of(content, tokens, model);
  if (id < 0) return;  // named by class defaults, but not in the vocabulary
  const auto [place, fresh] =
      tokens.emplace(id, AddedToken{.id = id, .content = content, .special = true});
  if (!fresh) place->second.special = true;
}

void read_named(const JsonNode& config, const SentencePieceModel& model, TokensById& tokens) {
  for (const char* name : kNamedTokens)
    if (config.has(name)) add_special(config.at(name), model, tokens);
  if (!config.has("additional_special_tokens")) return;
  const JsonNode list = config.at("additional_special_tokens");
  for (std::size_t i = 0; i < list.size(); ++i) add_special(list.at(i), model, tokens);
}

}  // namespace

std::vector<AddedToken> read_side_tokens(const std::filesystem::path& folder,
                                         const SentencePieceModel& model) {
  const io::Json config = io::read_json_if_present(folder / "tokenizer_config.json");
  const io::Json plain = io::read_json_if_present(folder / "added_tokens.json");
  TokensById tokens;
  read_decoder(JsonNode(config, "tokenizer_config.json"), tokens);
  read_plain_list(JsonNode(plain, "added_tokens.json"), tokens);
  read_named(JsonNode(config, "tokenizer_config.json"), model, tokens);
  std::vector<AddedToken> list;
  for (auto& [id, token] : tokens) list.push_back(std::move(token));
  return list;
}

// ---- The tokenizer

namespace {

constexpr std::string_view kMetaspace = "\xE2\x96\x81";  // U+2581

// A second normalizer_spec (field 3) merges into the first: add_dummy_prefix (its field 3) = false.
constexpr std::string_view kNoDummyPrefix("\x1A\x02\x18\x00", 4);

std::string with_metaspace_as_space(std::string_view text) {
  std::string result;
  for (std::size_t at = 0; at < text.size();) {
    if (text.substr(at).starts_with(kMetaspace)) {
      result += ' ';
      at += kMetaspace.size();
    } else {
      result += text[at++];
    }
  }
  return result;
}

const char* name_of(SentencePieceModel::Algorithm algorithm) {
  switch (algorithm) {
    case SentencePieceModel::Algorithm::kUnigram:
      return "Unigram";
    case SentencePieceModel::Algorithm::kBpe:
      return "BPE";
    case SentencePieceModel::Algorithm::kWord:
      return "words";
    case SentencePieceModel::Algorithm::kChar:
      return "characters";
  }
  return "";
}

// The id of the special token that `config` names under `key`, else of the piece `otherwise`.
std::optional<std::int32_t> special_id(const JsonNode& config, const char* key,
                                       const std::string& otherwise,
                                       const SentencePieceModel& model,
                                       const std::vector<AddedToken>& added) {
  std::string content = otherwise;
  if (config.has(key)) {
    const JsonNode entry = config.at(key);
    content = entry.value().is_object() ? entry.at("content").string() : entry.string();
  }
  for (const AddedToken& token : added)
    if (token.content == content) return token.id;
  const std::int32_t id = model.find(content);
  if (id < 0) return std::nullopt;
  return id;
}

TokenIds ids_if_wanted(const JsonNode& config, const char* flag, bool by_default,
                       std::optional<std::int32_t> id) {
  if (!config.flag_or(flag, by_default)) return {};
  if (id) return {*id};
  if (config.has(flag)) config.at(flag).refuse("is true, but the vocabulary has no such token");
  return {};
}

SentencePieceConventions read_conventions(const JsonNode& config, const SentencePieceModel& model,
                                          const std::vector<AddedToken>& added) {
  SentencePieceConventions conventions;
  conventions.legacy = config.flag_or("legacy", true);
  conventions.add_prefix_space = config.flag_or("add_prefix_space", true);
  const auto bos = special_id(config, "bos_token", "<s>", model, added);
  const auto eos = special_id(config, "eos_token", "</s>", model, added);
  conventions.prefix = ids_if_wanted(config, "add_bos_token", true, bos);
  conventions.suffix = ids_if_wanted(config, "add_eos_token", false, eos);
  if (!conventions.legacy && model.remove_extra_whitespaces)
    unsupported(config.at("legacy"), "is false for a model that removes extra whitespace");
  return conventions;
}

class SentencePieceTokenizer final : public Tokenizer {
 public:
  SentencePieceTokenizer(const SentencePieceModel& model, std::vector<AddedToken> added,
                         SentencePieceConventions conventions, const std::string& name)
      : conventions_(std::move(conventions)) {
    std::string serialized = model.serialized;
    if (!conventions_.legacy) serialized += kNoDummyPrefix;
    encoder_ = make_sentencepiece_encoder(serialized);
    for (const auto& piece : model.pieces) tokens_.push_back(piece.text);
    for (const AddedToken& token : added) set_token(token);
    for (std::size_t id = tokens_.size(); id-- > 0;)
      ids_[tokens_[id]] = static_cast<std::int32_t>(id);
    std::vector<std::pair<std::string, AddedToken>> sought;
    for (AddedToken& token : added) sought.emplace_back(token.content, std::move(token));
    splitter_ = AddedTokenSplitter(std::move(sought));
    description_ = fmt::format("{}: SentencePiece {}, {} tokens", name, name_of(model.algorithm),
                               tokens_.size());
  }

  TokenIds encode(std::string_view text, bool parse_special) const override {
    bool replaced = false;
    const std::string clean = replace_invalid_utf8(text, replaced);
    return conventions_.legacy ? encode_parts(clean, parse_special)
                               : encode_with_one_prefix(clean, parse_special);
  }

  TokenIds prefix() const override { return conventions_.prefix; }
  TokenIds suffix() const override { return conventions_.suffix; }
  std::int64_t vocab_size() const override { return static_cast<std::int64_t>(tokens_.size()); }
  std::optional<std::int32_t> id_of(std::string_view token) const override {
    const auto found = ids_.find(token);
    if (found == ids_.end()) return std::nullopt;
    return found->second;
  }
  std::string token(std::int32_t id) const override {
    const auto index = static_cast<std::size_t>(id);
    return id >= 0 && index < tokens_.size() ? tokens_[index] : "";
  }
  std::string description() const override { return description_; }

 private:
  void set_token(const AddedToken& token) {
    const auto index = static_cast<std::size_t>(token.id);
    if (index >= tokens_.size()) tokens_.resize(index + 1);
    tokens_[index] = token.content;
    if (token.special) special_ids_.push_back(token.id);
  }

  TokenIds encode_parts(std::string_view text, bool parse_special) const {
    TokenIds ids;
    for (const auto& [span, id] : splitter_.split(text, parse_special)) {
      if (id) {
        ids.push_back(*id);
        continue;
      }
      const std::vector<int> part =
          encoder_->encode(text.substr(span.begin, span.end - span.begin));
      ids.insert(ids.end(), part.begin(), part.end());
    }
    return ids;
  }

  // Implements `legacy: false` of Llama tokenizers: the model adds no space. The text gets one in
  // front, which is removed if it became a token of its own before a special token.
  TokenIds encode_with_one_prefix(std::string_view text, bool parse_special) const {
    if (text.empty()) return {};
    std::string plain = with_metaspace_as_space(text);
    if (conventions_.add_prefix_space) plain.insert(0, kMetaspace);
    TokenIds ids = encode_parts(plain, parse_special);
    if (ids.size() > 1 && ids[0] == id_of(kMetaspace) && is_special(ids[1])) ids.erase(ids.begin());
    return ids;
  }

  bool is_special(std::int32_t id) const {
    return std::find(special_ids_.begin(), special_ids_.end(), id) != special_ids_.end();
  }

  std::unique_ptr<SentencePieceEncoder> encoder_;
  SentencePieceConventions conventions_;
  AddedTokenSplitter splitter_;
  std::vector<std::string> tokens_;  // by id
  StringMap<std::int32_t> ids_;
  std::vector<std::int32_t> special_ids_;
  std::string description_;
};

}  // namespace

std::unique_ptr<Tokenizer> make_sentencepiece_tokenizer(const SentencePieceModel& model,
                                                        std::vector<AddedToken> added,
                                                        SentencePieceConventions conventions,
                                                        const std::string& name) {
  return std::make_unique<SentencePieceTokenizer>(model, std::move(added), std::move(conventions),
                                                  name);
}

std::unique_ptr<Tokenizer> load_sentencepiece_tokenizer(const std::filesystem::path& folder) {
  const SentencePieceModel model = read_sentencepiece_model(folder / "tokenizer.model");
  const std::vector<AddedToken> added = read_side_tokens(folder, model);
  const io::Json config = io::read_json_if_present(folder / "tokenizer_config.json");
  SentencePieceConventions conventions =
      read_conventions(JsonNode(config, "tokenizer_config.json"), model, added);
  return with_context((folder / "tokenizer.model").string(), [&] {
    return make_sentencepiece_tokenizer(model, added, std::move(conventions), "tokenizer.model");
  });
}

}  // namespace calque::text
