#include <fmt/format.h>

#include <algorithm>
#include <map>

#include "text/json_tokenizer.h"
#include "text/pre_name.h"
#include "text/pre_tokenizer.h"
#include "text/side_tokens.h"
#include "text/unicode.h"
#include "text/vocabulary_parts.h"

namespace calque::text {
namespace {

using TokenType = Vocabulary::TokenType;

const JsonNode* find_type(const std::vector<JsonNode>& steps, std::string_view type) {
  const auto found = std::find_if(steps.begin(), steps.end(), [type](const JsonNode& step) {
    return step.at("type").string() == type;
  });
  return found == steps.end() ? nullptr : &*found;
}

// The parts of a tokenizer.json that GGUF stores.
class JsonVocabulary {
 public:
  explicit JsonVocabulary(const JsonNode& root)
      : root_(root), model_(root.at("model")), added_(read_added_tokens(root, model_)) {
    if (root.has("pre_tokenizer")) steps_ = flattened_pre_tokenizers(root.at("pre_tokenizer"));
    byte_level_ = find_type(steps_, "ByteLevel") != nullptr;
    if (!byte_level_ && !model_.byte_fallback())
      unsupported(
          root.at("model"),
          "is neither byte-level nor has byte fallback; GGUF has no name for such a tokenizer");
  }

  bool byte_level() const { return byte_level_; }
  const std::vector<AddedToken>& added() const { return added_; }
  std::optional<std::int32_t> id_in_model(const std::string& text) const {
    return model_.id_of(text);
  }

  void append_tokens(Vocabulary& vocabulary) const {
    std::size_t count = 0;
    for (const auto& [token, id] : model_.vocabulary())
      count = std::max(count, static_cast<std::size_t>(id) + 1);
    for (const AddedToken& token : added_)
      count = std::max(count, static_cast<std::size_t>(token.id) + 1);
    for (std::size_t id = 0; id < count; ++id) vocabulary.tokens.push_back(pad_token(id));
    vocabulary.types.assign(count, TokenType::kUnused);
    for (const auto& [token, id] : model_.vocabulary())
      put(vocabulary, id, token, type_of_model_token(token));
    for (const AddedToken& token : added_) put_added(vocabulary, token);
  }

  // A space inside a part is written as its character in the byte alphabet. Pieces have no space
  // inside, or no merges here.
  void append_merges(Vocabulary& vocabulary) const {
    const auto has_space = [](const auto& merge) {
      return (merge.first + merge.second).find(' ') != std::string::npos;
    };
    if (!byte_level_ && std::any_of(model_.merges().begin(), model_.merges().end(), has_space))
      return;
    const auto escaped = [](std::string part) {
      for (std::size_t at = part.find(' '); at != std::string::npos; at = part.find(' '))
        part.replace(at, 1, "\xC4\xA0");  // U+0120
      return part;
    };
    for (const auto& [left, right] : model_.merges())
      vocabulary.merges.push_back(escaped(left) + ' ' + escaped(right));
  }

  std::vector<std::int32_t> merged_ids() const {
    std::vector<std::int32_t> ids;
    for (const auto& [left, right] : model_.merges()) ids.push_back(*model_.id_of(left + right));
    return ids;
  }

  // True if a space is put in front of a text, by Metaspace or a Prepend normalizer.
  bool adds_space_prefix() const {
    if (const JsonNode* metaspace = find_type(steps_, "Metaspace")) {
      const bool add_space = metaspace->flag_or("add_prefix_space", true);
      return metaspace->text_or("prepend_scheme", add_space ? "always" : "never") != "never";
    }
    if (!root_.has("normalizer")) return false;
    const JsonNode normalizer = root_.at("normalizer");
    if (normalizer.at("type").string() != "Sequence")
      return normalizer.at("type").string() == "Prepend";
    const JsonNode list = normalizer.at("normalizers");
    for (std::size_t i = 0; i < list.size(); ++i)
      if (list.at(i).at("type").string() == "Prepend") return true;
    return false;
  }

 private:
  static void put(Vocabulary& vocabulary, std::int32_t id, const std::string& token,
                  TokenType type) {
    vocabulary.tokens[static_cast<std::size_t>(id)] = token;
    vocabulary.types[static_cast<std::size_t>(id)] = type;
  }

  TokenType type_of_model_token(const std::string& token) const {
    if (byte_level_) return TokenType::kNormal;
    if (is_byte_token(token)) return TokenType::kByte;
    return token == model_.unknown_token() ? TokenType::kUnknown : TokenType::kNormal;
  }

  void put_added(Vocabulary& vocabulary, const AddedToken& token) const {
    const TokenType in_model = vocabulary.types[static_cast<std::size_t>(token.id)];
    if (in_model == TokenType::kByte || in_model == TokenType::kUnknown) return;
    const std::string text = byte_level_ ? decoded(token) : token.content;
    const TokenType type = added_type(token.special, text);
    put(vocabulary, token.id, type == TokenType::kUserDefined ? user_defined_text(text) : text,
        type);
  }

  // The byte-level decoder's output for a token that is matched in the raw text.
  static std::string decoded(const AddedToken& token) {
    if (token.normalized) return token.content;
    const auto bytes = from_byte_alphabet(token.content);
    bool replaced = false;
    return bytes ? replace_invalid_utf8(*bytes, replaced) : token.content;
  }

  JsonNode root_;
  Bpe model_;
  std::vector<AddedToken> added_;
  std::vector<JsonNode> steps_;
  bool byte_level_ = false;
};

std::optional<std::int32_t> find_id(const Vocabulary& vocabulary, const std::string& name) {
  const auto found = vocabulary.special_ids.find(name);
  if (found == vocabulary.special_ids.end()) return std::nullopt;
  return found->second;
}

// AutoTokenizer does not read the flag of tokenizer_config.json next to a tokenizer.json.
void settle(const char* name, bool added, std::optional<bool>& flag, Vocabulary& vocabulary) {
  if (flag && *flag != added)
    vocabulary.remarks.push_back(
        fmt::format("tokenizer_config.json: {} is {}, but tokenizer.json's post_processor adds {}: "
                    "that is stored, as AutoTokenizer reads it",
                    name, *flag, added ? "one" : "none"));
  flag = added;
}

// Readers have their own defaults for these flags, so they are always written.
void read_flags(const JsonNode& root, Vocabulary& vocabulary) {
  Surroundings around;
  if (root.has("post_processor")) around = read_post_processor(root.at("post_processor"));
  if (around.prefix.size() == 1) vocabulary.special_ids.emplace("bos", around.prefix[0]);
  const auto bos = find_id(vocabulary, "bos");
  const auto eos = find_id(vocabulary, "eos");
  settle("add_bos_token", bos && !around.prefix.empty() && around.prefix.front() == *bos,
         vocabulary.add_bos, vocabulary);
  settle("add_eos_token", eos && !around.suffix.empty() && around.suffix.back() == *eos,
         vocabulary.add_eos, vocabulary);
}

}  // namespace

Vocabulary json_vocabulary(const std::filesystem::path& folder, std::int64_t vocab_size,
                           bool decide_pre) {
  const io::Json document = with_side_tokens(io::read_json(folder / "tokenizer.json"), folder);
  const JsonNode root(document, "tokenizer.json", "E213");
  const JsonVocabulary reader(root);
  Vocabulary vocabulary;
  vocabulary.kind =
      reader.byte_level() ? Vocabulary::Kind::kByteLevelBpe : Vocabulary::Kind::kSentencePiece;
  if (!reader.byte_level()) vocabulary.pre = "default";
  if (reader.byte_level() && decide_pre) vocabulary.pre = pre_name(root);
  reader.append_tokens(vocabulary);
  reader.append_merges(vocabulary);
  if (!reader.byte_level()) score_by_rank(reader.merged_ids(), vocabulary);
  pad_vocabulary(vocabulary, vocab_size, !reader.byte_level());

  const auto id_of = [&reader](const std::string& text) -> std::optional<std::int32_t> {
    for (const AddedToken& token : reader.added())
      if (token.content == text) return token.id;
    return reader.id_in_model(text);
  };
  read_special_ids(folder, id_of, vocab_size, vocabulary);
  read_flags(root, vocabulary);
  if (!reader.byte_level() && !vocabulary.add_space_prefix)
    vocabulary.add_space_prefix = reader.adds_space_prefix();
  return vocabulary;
}

}  // namespace calque::text
