#include "text/json_tokenizer.h"

#include <fmt/format.h>

#include <algorithm>
#include <unordered_map>

#include "calque/core/names.h"
#include "text/bpe.h"
#include "text/normalizer.h"
#include "text/pieces.h"
#include "text/pre_tokenizer.h"
#include "text/side_tokens.h"
#include "text/unicode.h"

namespace calque::text {

// ---- Tokens around a text

namespace {

TokenIds ids_of_special(const JsonNode& processor, const JsonNode& item) {
  const std::string& name = item.at("SpecialToken").at("id").string();
  if (!processor.at("special_tokens").has(name))
    item.refuse(fmt::format("special_tokens has no {}", quote_name(name)));
  const JsonNode list = processor.at("special_tokens").at(name).at("ids");
  TokenIds ids;
  for (std::size_t i = 0; i < list.size(); ++i)
    ids.push_back(static_cast<std::int32_t>(list.at(i).integer(0, kMaxTokenId)));
  return ids;
}

Surroundings read_template(const JsonNode& processor) {
  Surroundings around;
  bool after_sequence = false;
  const JsonNode single = processor.at("single");
  for (std::size_t i = 0; i < single.size(); ++i) {
    const JsonNode item = single.at(i);
    if (item.has("SpecialToken")) {
      const TokenIds ids = ids_of_special(processor, item);
      TokenIds& side = after_sequence ? around.suffix : around.prefix;
      side.insert(side.end(), ids.begin(), ids.end());
    } else if (item.has("Sequence") && !after_sequence) {
      after_sequence = true;
    } else {
      unsupported(item, "is neither a special token nor the only sequence");
    }
  }
  if (!after_sequence) unsupported(single, "holds no sequence");
  return around;
}

// Each step wraps the result of the previous one.
Surroundings read_sequence(const JsonNode& list) {
  Surroundings around;
  for (std::size_t i = 0; i < list.size(); ++i) {
    const Surroundings outer = read_post_processor(list.at(i));
    around.prefix.insert(around.prefix.begin(), outer.prefix.begin(), outer.prefix.end());
    around.suffix.insert(around.suffix.end(), outer.suffix.begin(), outer.suffix.end());
  }
  return around;
}

}  // namespace

Surroundings read_post_processor(const JsonNode& node) {
  if (node.value().is_null()) return {};
  const std::string& type = node.at("type").string();
  if (type == "TemplateProcessing") return read_template(node);
  if (type == "ByteLevel") return {};
  if (type == "Sequence") return read_sequence(node.at("processors"));
  unsupported(node, fmt::format("post-processor '{}' is not implemented", type));
}

// ---- The tokenizer

namespace {

const io::Json kNull;

JsonNode member_or_null(const JsonNode& root, std::string_view key, const std::string& file) {
  return root.value().contains(key) ? root.at(key) : JsonNode(kNull, file);
}

AddedTokenSplitter raw_splitter(const std::vector<AddedToken>& tokens) {
  std::vector<std::pair<std::string, AddedToken>> sought;
  for (const AddedToken& token : tokens)
    if (!token.normalized) sought.emplace_back(token.content, token);
  return AddedTokenSplitter(std::move(sought));
}

AddedTokenSplitter normalized_splitter(const std::vector<AddedToken>& tokens,
                                       const Normalizer& normalize) {
  std::vector<std::pair<std::string, AddedToken>> sought;
  for (const AddedToken& token : tokens)
    if (token.normalized) sought.emplace_back(normalize(token.content), token);
  return AddedTokenSplitter(std::move(sought));
}

bool is_byte_level(const JsonNode& pre_tokenizer) {
  const auto steps = flattened_pre_tokenizers(pre_tokenizer);
  return std::any_of(steps.begin(), steps.end(),
                     [](const JsonNode& step) { return step.at("type").string() == "ByteLevel"; });
}

class JsonTokenizer final : public Tokenizer {
 public:
  JsonTokenizer(const JsonNode& root, const std::string& file)
      : model_(root.at("model")),
        added_(read_added_tokens(root, model_)),
        normalize_(make_normalizer(member_or_null(root, "normalizer", file))),
        pre_tokenize_(make_pre_tokenizer(member_or_null(root, "pre_tokenizer", file))),
        around_(read_post_processor(member_or_null(root, "post_processor", file))),
        raw_(raw_splitter(added_)),
        normalized_(normalized_splitter(added_, normalize_)) {
    for (const auto& [token, id] : model_.vocabulary()) set_token(id, token);
    for (const AddedToken& token : added_) set_token(token.id, token.content);
    for (const AddedToken& token : added_) added_ids_.emplace(token.content, token.id);
    for (const AddedToken& token : added_) special_[token.id] = token.special;
    const bool bytes = is_byte_level(member_or_null(root, "pre_tokenizer", file));
    spelling_ = bytes ? Spelling::kByteAlphabet : Spelling::kMetaspace;
    const char* kind = bytes                    ? "byte-level BPE"
                       : model_.byte_fallback() ? "BPE with byte fallback"
                                                : "BPE";
    description_ = fmt::format("{}: {}, {} tokens", file, kind, tokens_.size());
  }

  TokenIds encode(std::string_view text, bool parse_special) const override {
    bool replaced = false;
    const std::string clean = replace_invalid_utf8(text, replaced);
    TokenIds ids;
    Bpe::Cache cache;
    for (const auto& [span, id] : raw_.split(clean, parse_special)) {
      if (id)
        ids.push_back(*id);
      else
        encode_part(clean.substr(span.begin, span.end - span.begin), span.begin == 0, parse_special,
                    cache, ids);
    }
    return ids;
  }

  TokenIds prefix() const override { return around_.prefix; }
  TokenIds suffix() const override { return around_.suffix; }
  std::int64_t vocab_size() const override { return static_cast<std::int64_t>(tokens_.size()); }

  std::optional<std::int32_t> id_of(std::string_view token) const override {
    const auto added = added_ids_.find(token);
    return added != added_ids_.end() ? added->second : model_.id_of(token);
  }
  std::string token(std::int32_t id) const override {
    const auto index = static_cast<std::size_t>(id);
    return id >= 0 && index < tokens_.size() ? tokens_[index] : "";
  }
  std::string decode(const TokenIds& ids) const override {
    std::string bytes;
    for (const std::int32_t id : ids) {
      const auto added = special_.find(id);
      if (added == special_.end())
        append_piece(token(id), spelling_, bytes);
      else if (!added->second)
        bytes += token(id);
    }
    bool replaced = false;
    return replace_invalid_utf8(bytes, replaced);
  }
  std::string description() const override { return description_; }

 private:
  void set_token(std::int32_t id, const std::string& token) {
    const auto index = static_cast<std::size_t>(id);
    if (index >= tokens_.size()) tokens_.resize(index + 1);
    tokens_[index] = token;
  }

  // Text between added tokens: normalized, cut at the normalized tokens, then at words.
  void encode_part(std::string text, bool at_start, bool parse_special, Bpe::Cache& cache,
                   TokenIds& ids) const {
    const std::string normal = normalize_(std::move(text));
    for (const auto& [span, id] : normalized_.split(normal, parse_special)) {
      if (id) {
        ids.push_back(*id);
        continue;
      }
      Pieces pieces{
          {normal.substr(span.begin, span.end - span.begin), at_start && span.begin == 0}};
      pre_tokenize_(pieces);
      for (const Piece& piece : pieces) model_.encode(piece.text, cache, ids);
    }
  }

  Bpe model_;
  std::vector<AddedToken> added_;
  Normalizer normalize_;
  PreTokenizer pre_tokenize_;
  Surroundings around_;
  AddedTokenSplitter raw_;
  AddedTokenSplitter normalized_;
  std::vector<std::string> tokens_;  // by id
  StringMap<std::int32_t> added_ids_;
  std::unordered_map<std::int32_t, bool> special_;  // added tokens: true if special
  Spelling spelling_ = Spelling::kByteAlphabet;
  std::string description_;
};

}  // namespace

std::vector<AddedToken> read_added_tokens(const JsonNode& root, const Bpe& model) {
  std::vector<AddedToken> tokens;
  if (!root.has("added_tokens")) return tokens;
  StringMap<std::int32_t> known;
  auto next = static_cast<std::int32_t>(model.vocabulary().size());
  const JsonNode list = root.at("added_tokens");
  for (std::size_t i = 0; i < list.size(); ++i) {
    AddedToken token = read_added_token(list.at(i));
    const auto twin = known.find(token.content);
    const auto in_model =
        twin != known.end() ? std::optional(twin->second) : model.id_of(token.content);
    const std::int32_t given = in_model.value_or(next);
    if (given != token.id)
      list.at(i).refuse(fmt::format("gives {} the id {}, but a reader gives it {}{}",
                                    quote_name(token.content), token.id, given,
                                    in_model ? "" : ", the next one that is free"));
    next = std::max(next, given + 1);
    known.emplace(token.content, given);
    tokens.push_back(std::move(token));
  }
  return tokens;
}

std::unique_ptr<Tokenizer> make_json_tokenizer(const io::Json& document, const std::string& name) {
  return std::make_unique<JsonTokenizer>(JsonNode(document, name, "E213"), name);
}

std::unique_ptr<Tokenizer> load_json_tokenizer(const std::filesystem::path& file) {
  return make_json_tokenizer(with_side_tokens(io::read_json(file), file.parent_path()),
                             file.filename().string());
}

}  // namespace calque::text
