#include "calque/text/vocabulary.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cctype>

#include "calque/core/error.h"
#include "calque/io/file.h"
#include "text/gguf_tokenizer.h"
#include "text/json_node.h"
#include "text/sentencepiece_tokenizer.h"
#include "text/vocabulary_parts.h"

namespace calque::text {

// ---- Kinds of tokens

namespace {

constexpr std::string_view kMetaspace = "\xE2\x96\x81";  // U+2581
// "<" and ">" with U+FF5C inside, as in DeepSeek's tokens.
constexpr std::string_view kWideOpen = "<\xEF\xBD\x9C";
constexpr std::string_view kWideClose = "\xEF\xBD\x9C>";

bool is_hex(char c) { return std::isxdigit(static_cast<unsigned char>(c)) != 0; }

bool enclosed(std::string_view token, std::string_view open, std::string_view close) {
  return token.starts_with(open) && token.ends_with(close);
}

}  // namespace

bool looks_special(std::string_view token) {
  for (const char* known : {"<pad>", "<mask>", "<2mass>", "[@BOS@]"})
    if (token == known) return true;
  return enclosed(token, "<|", "|>") || enclosed(token, kWideOpen, kWideClose) ||
         enclosed(token, "<unused", ">");
}

Vocabulary::TokenType added_type(bool special, std::string_view token) {
  return special || looks_special(token) ? Vocabulary::TokenType::kControl
                                         : Vocabulary::TokenType::kUserDefined;
}

std::string user_defined_text(std::string_view token) {
  std::string text(token);
  for (std::size_t at = text.find(kMetaspace); at != std::string::npos; at = text.find(kMetaspace))
    text.replace(at, kMetaspace.size(), 1, ' ');
  return text;
}

bool is_byte_token(std::string_view token) {
  return token.size() == 6 && token.starts_with("<0x") && token[5] == '>' && is_hex(token[3]) &&
         is_hex(token[4]);
}

std::string pad_token(std::size_t id) { return fmt::format("[PAD{}]", id); }

void pad_vocabulary(Vocabulary& vocabulary, std::int64_t vocab_size, bool scored) {
  const std::size_t count = vocabulary.tokens.size();
  if (count > static_cast<std::size_t>(vocab_size))
    throw Error(ErrorKind::kInput, "",
                fmt::format("the tokenizer has {} tokens, but the embedding only {} rows; are the "
                            "tokenizer files those of this model?",
                            count, vocab_size));
  for (std::size_t id = count; id < static_cast<std::size_t>(vocab_size); ++id) {
    vocabulary.tokens.push_back(pad_token(id));
    vocabulary.types.push_back(Vocabulary::TokenType::kUnused);
    if (scored) vocabulary.scores.push_back(kPadScore);
  }
}

// ---- Special tokens, by name and by id

namespace {

struct Named {
  const char* key;   // in the JSON files: "KEY_token", "KEY_token_id"
  const char* gguf;  // in GGUF: "GGUF_token_id"; "seperator" is that format's spelling
};
constexpr std::array<Named, 7> kNamed = {{{"bos", "bos"},
                                          {"eos", "eos"},
                                          {"unk", "unknown"},
                                          {"sep", "seperator"},
                                          {"pad", "padding"},
                                          {"cls", "cls"},
                                          {"mask", "mask"}}};

std::string key_of(const Named& named, const char* ending) {
  return std::string(named.key) + ending;
}

std::optional<std::string> token_text(const JsonNode& config, const std::string& key) {
  if (!config.has(key)) return std::nullopt;
  const JsonNode entry = config.at(key);
  return entry.value().is_object() ? entry.text_or("content", "") : entry.string();
}

class Reader {
 public:
  Reader(std::int64_t vocab_size, Vocabulary& vocabulary)
      : vocab_size_(vocab_size), vocabulary_(vocabulary) {}

  void from_texts(const JsonNode& config, const AddedTokenId& id_of) {
    for (const Named& named : kNamed)
      if (const auto text = token_text(config, key_of(named, "_token")))
        if (const auto id = id_of(*text)) set(named, *id);
  }

  // `first_of_list`: generation configs may list several end tokens; the first is the main one.
  void from_ids(const JsonNode& config, bool first_of_list) {
    for (const Named& named : kNamed) {
      const std::string key = key_of(named, "_token_id");
      if (!config.has(key)) continue;
      const io::Json& value = config.at(key).value();
      if (value.is_integer()) set(named, config.at(key).integer(-1, INT32_MAX));
      if (first_of_list && value.is_array() && !value.empty())
        set(named, config.at(key).at(std::size_t{0}).integer(-1, INT32_MAX));
    }
  }

 private:
  void set(const Named& named, std::int64_t id) {
    if (id >= 0 && id < vocab_size_)
      vocabulary_.special_ids.emplace(named.gguf, static_cast<std::int32_t>(id));
  }

  std::int64_t vocab_size_;
  Vocabulary& vocabulary_;
};

std::optional<bool> flag(const JsonNode& config, const char* key) {
  if (!config.has(key)) return std::nullopt;
  return config.at(key).boolean();
}

// A template, or the one named "default" in a list of named ones.
std::string template_of(const JsonNode& entry) {
  if (entry.value().is_string()) return entry.string();
  for (std::size_t i = 0; i < entry.size(); ++i)
    if (entry.at(i).text_or("name", "") == "default") return entry.at(i).at("template").string();
  return "";
}

std::string chat_template(const std::filesystem::path& folder, const JsonNode& config) {
  if (config.has("chat_template")) return template_of(config.at("chat_template"));
  if (std::filesystem::exists(folder / "chat_template.jinja"))
    return io::read_file(folder / "chat_template.jinja");
  const io::Json alone = io::read_json_if_present(folder / "chat_template.json");
  const JsonNode node(alone, "chat_template.json");
  return node.has("chat_template") ? template_of(node.at("chat_template")) : "";
}

}  // namespace

void read_special_ids(const std::filesystem::path& folder, const AddedTokenId& id_of,
                      std::int64_t vocab_size, Vocabulary& vocabulary) {
  const auto tokenizer_config = io::read_json_if_present(folder / "tokenizer_config.json");
  const auto config = io::read_json_if_present(folder / "config.json");
  const auto generation = io::read_json_if_present(folder / "generation_config.json");
  const JsonNode tokenizer_node(tokenizer_config, "tokenizer_config.json");
  const JsonNode config_node(config, "config.json");
  Reader reader(vocab_size, vocabulary);
  reader.from_texts(tokenizer_node, id_of);
  reader.from_ids(config_node, false);
  if (config_node.has("text_config")) reader.from_ids(config_node.at("text_config"), false);
  reader.from_ids(JsonNode(generation, "generation_config.json"), true);
  reader.from_ids(config_node, true);
  vocabulary.add_bos = flag(tokenizer_node, "add_bos_token");
  vocabulary.add_eos = flag(tokenizer_node, "add_eos_token");
  vocabulary.add_space_prefix = flag(tokenizer_node, "add_prefix_space");
  vocabulary.chat_template = chat_template(folder, tokenizer_node);
}

// ---- tokenizer.model

namespace {

using TokenType = Vocabulary::TokenType;

void append_pieces(const SentencePieceModel& model, Vocabulary& vocabulary) {
  for (const auto& piece : model.pieces) {
    vocabulary.tokens.push_back(piece.text);
    vocabulary.scores.push_back(piece.score);
    // The two enumerations share their numbers.
    vocabulary.types.push_back(static_cast<TokenType>(piece.type));
  }
}

bool is_ordinary(TokenType type) {
  return type == TokenType::kNormal || type == TokenType::kUserDefined ||
         type == TokenType::kUnused;
}

void put_added_token(const AddedToken& token, Vocabulary& vocabulary) {
  const auto id = static_cast<std::size_t>(token.id);
  pad_vocabulary(
      vocabulary,
      std::max<std::int64_t>(token.id + 1, static_cast<std::int64_t>(vocabulary.tokens.size())),
      true);
  if (!is_ordinary(vocabulary.types[id])) return;
  const TokenType type = added_type(token.special, token.content);
  vocabulary.types[id] = type;
  vocabulary.scores[id] = kAddedScore;
  vocabulary.tokens[id] =
      type == TokenType::kUserDefined ? user_defined_text(token.content) : token.content;
}

void check_mergeable(const SentencePieceModel& model) {
  if (model.algorithm == SentencePieceModel::Algorithm::kBpe) return;
  throw Error(
      ErrorKind::kInput, "E211",
      "tokenizer.model is not a BPE model; GGUF readers would tokenize with it differently. "
      "Export gptq or awq, whose folders keep the tokenizer as it is.");
}

}  // namespace

Vocabulary sentencepiece_vocabulary(const std::filesystem::path& folder, std::int64_t vocab_size) {
  const SentencePieceModel model = read_sentencepiece_model(folder / "tokenizer.model");
  check_mergeable(model);
  const std::vector<AddedToken> added = read_side_tokens(folder, model);
  Vocabulary vocabulary;
  vocabulary.kind = Vocabulary::Kind::kSentencePiece;
  vocabulary.pre = "default";
  append_pieces(model, vocabulary);
  for (const AddedToken& token : added) put_added_token(token, vocabulary);
  pad_vocabulary(vocabulary, vocab_size, true);

  // Ids come from the files. A text is looked up among the pieces only for the two ids that every
  // reader needs, if the files do not state them.
  read_special_ids(
      folder, [](const std::string&) { return std::nullopt; }, vocab_size, vocabulary);
  for (const auto& [name, text] : {std::pair{"bos", "<s>"}, std::pair{"eos", "</s>"}})
    if (const std::int32_t id = model.find(text); id >= 0) vocabulary.special_ids.emplace(name, id);
  if (!model.add_dummy_prefix) vocabulary.add_space_prefix = false;
  return vocabulary;
}

// ---- The files of a model

Vocabulary load_vocabulary(const std::filesystem::path& model, std::int64_t vocab_size,
                           const std::string& pre_override) {
  if (is_gguf(model)) {
    Vocabulary vocabulary = gguf_vocabulary(model);
    pad_vocabulary(vocabulary, vocab_size, !vocabulary.scores.empty());
    if (!pre_override.empty()) vocabulary.pre = pre_override;
    return vocabulary;
  }
  const auto pieces = model / "tokenizer.model";
  const auto json = model / "tokenizer.json";
  Vocabulary vocabulary;
  if (std::filesystem::exists(pieces)) {
    vocabulary = sentencepiece_vocabulary(model, vocab_size);
  } else if (std::filesystem::exists(json)) {
    vocabulary = json_vocabulary(model, vocab_size, pre_override.empty());
  } else {
    throw Error(ErrorKind::kInput, "",
                fmt::format("{}: has neither tokenizer.model nor tokenizer.json, and GGUF files "
                            "carry the tokenizer. Copy the tokenizer files of the model there.",
                            model.string()));
  }
  if (!pre_override.empty()) vocabulary.pre = pre_override;
  return vocabulary;
}

}  // namespace calque::text
