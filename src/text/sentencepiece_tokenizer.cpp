#include "text/sentencepiece_tokenizer.h"

#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "calque/core/error.h"
#include "text/bpe.h"
#include "text/pieces.h"
#include "text/sentencepiece/encoder.h"
#include "text/side_tokens.h"
#include "text/string_map.h"
#include "text/unicode.h"

namespace calque::text {

std::vector<AddedToken> read_side_tokens(const std::filesystem::path& folder,
                                         const SentencePieceModel& model) {
  return side_tokens(folder, [&model](const std::string& text) -> std::optional<std::int32_t> {
    const std::int32_t id = model.find(text);
    if (id < 0) return std::nullopt;
    return id;
  });
}

// ---- The tokenizer

namespace {

// A second normalizer_spec (field 3) merges into the first: add_dummy_prefix (its field 3) = false.
constexpr std::string_view kNoDummyPrefix("\x1A\x02\x18\x00", 4);

std::string with_metaspace_as_space(std::string_view text) {
  std::string result;
  for (std::size_t at = 0; at < text.size();) {
    if (text.substr(at).starts_with(kMetaspaceMark)) {
      result += ' ';
      at += kMetaspaceMark.size();
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
    using PieceType = SentencePieceModel::PieceType;
    for (const auto& piece : model.pieces) {
      if (piece.type == PieceType::kControl || piece.type == PieceType::kUnknown)
        silent_.insert(static_cast<std::int32_t>(tokens_.size()));
      tokens_.push_back(piece.text);
    }
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
  std::string decode(const TokenIds& ids) const override {
    std::string bytes;
    for (const std::int32_t id : ids)
      if (silent_.count(id) == 0) append_piece(token(id), Spelling::kMetaspace, bytes);
    bool replaced = false;
    return replace_invalid_utf8(bytes, replaced);
  }
  std::string description() const override { return description_; }

 private:
  void set_token(const AddedToken& token) {
    const auto index = static_cast<std::size_t>(token.id);
    if (index >= tokens_.size()) tokens_.resize(index + 1);
    tokens_[index] = token.content;
    if (!token.special) return;
    special_ids_.push_back(token.id);
    silent_.insert(token.id);
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
    if (conventions_.add_prefix_space) plain.insert(0, kMetaspaceMark);
    TokenIds ids = encode_parts(plain, parse_special);
    if (ids.size() > 1 && ids[0] == id_of(kMetaspaceMark) && is_special(ids[1]))
      ids.erase(ids.begin());
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
  std::set<std::int32_t> silent_;  // no part of decoded text
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
  const io::Json config = tokenizer_settings(folder);
  SentencePieceConventions conventions =
      read_conventions(JsonNode(config, "tokenizer_config.json", "E213"), model, added);
  return with_context((folder / "tokenizer.model").string(), [&] {
    return make_sentencepiece_tokenizer(model, added, std::move(conventions), "tokenizer.model");
  });
}

}  // namespace calque::text
