#include "calque/text/vocabulary.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <map>
#include <system_error>

#include "calque/core/error.h"
#include "calque/core/names.h"
#include "calque/io/file.h"
#include "text/gguf_tokenizer.h"
#include "text/json_node.h"
#include "text/pieces.h"
#include "text/sentencepiece_tokenizer.h"
#include "text/side_tokens.h"
#include "text/vocabulary_parts.h"

namespace calque::text {

// ---- Kinds of tokens

namespace {

// "<" and ">" with U+FF5C inside, as in DeepSeek's tokens.
constexpr std::string_view kWideOpen = "<\xEF\xBD\x9C";
constexpr std::string_view kWideClose = "\xEF\xBD\x9C>";

bool is_hex_digit(char c) { return std::isxdigit(static_cast<unsigned char>(c)) != 0; }

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
  for (std::size_t at = text.find(kMetaspaceMark); at != std::string::npos;
       at = text.find(kMetaspaceMark))
    text.replace(at, kMetaspaceMark.size(), 1, ' ');
  return text;
}

bool is_byte_token(std::string_view token) {
  return token.size() == 6 && token.starts_with("<0x") && token[5] == '>' &&
         is_hex_digit(token[3]) && is_hex_digit(token[4]);
}

void score_by_rank(const std::vector<std::int32_t>& merged_ids, Vocabulary& vocabulary) {
  using Type = Vocabulary::TokenType;
  vocabulary.scores.assign(vocabulary.tokens.size(), kAddedScore);
  const auto lowest = -static_cast<float>(merged_ids.size());
  for (std::size_t id = 0; id < vocabulary.tokens.size(); ++id) {
    if (vocabulary.types[id] == Type::kNormal) vocabulary.scores[id] = lowest;
    if (vocabulary.types[id] == Type::kByte) vocabulary.scores[id] = 0;
    if (vocabulary.types[id] == Type::kUnknown) vocabulary.scores[id] = 0;
    if (vocabulary.types[id] == Type::kUnused) vocabulary.scores[id] = kPadScore;
  }
  for (std::size_t rank = merged_ids.size(); rank-- > 0;) {
    if (merged_ids[rank] < 0) continue;
    const auto id = static_cast<std::size_t>(merged_ids[rank]);
    if (vocabulary.types[id] == Type::kNormal) vocabulary.scores[id] = -static_cast<float>(rank);
  }
}

std::string pad_token(std::size_t id) { return fmt::format("[PAD{}]", id); }

void pad_vocabulary(Vocabulary& vocabulary, std::int64_t vocab_size, bool scored) {
  const std::size_t count = vocabulary.tokens.size();
  if (count > static_cast<std::size_t>(vocab_size))
    throw Error(ErrorKind::kInput, "E213",
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
  // `pieces_only`: there is a tokenizer.model and no tokenizer.json.
  Reader(std::int64_t vocab_size, bool pieces_only, Vocabulary& vocabulary)
      : vocab_size_(vocab_size), pieces_only_(pieces_only), vocabulary_(vocabulary) {}

  void from_texts(const JsonNode& config, const AddedTokenId& id_of) {
    for (const Named& named : kNamed)
      if (const auto text = token_text(config, key_of(named, "_token")))
        if (const auto id = id_of(*text); id && !(pieces_only_ && is_default(named, *id)))
          set(named, *id);
  }

  // `first_of_list`: generation configs may list several end tokens; the first is the main one.
  void from_ids(const JsonNode& config, const char* file, bool first_of_list) {
    for (const Named& named : kNamed) {
      const std::string key = key_of(named, "_token_id");
      if (!config.has(key)) continue;
      const io::Json& value = config.at(key).value();
      remark_difference(named, key, value, file);
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

  void remark_difference(const Named& named, const std::string& key, const io::Json& value,
                         const char* file) {
    const auto stored = vocabulary_.special_ids.find(named.gguf);
    if (stored == vocabulary_.special_ids.end()) return;
    const io::Json id(stored->second);
    const io::Json::Array one = {value};
    const io::Json::Array& ids = value.is_array() ? value.elements() : one;
    if (std::find(ids.begin(), ids.end(), id) != ids.end()) return;
    const std::string remark = fmt::format(
        "{}: {} is {}; the tokenizer's own ({}, '{}') is stored, as AutoTokenizer reads "
        "it",
        file, key, value.dump(), stored->second, token_of(stored->second));
    std::vector<std::string>& remarks = vocabulary_.remarks;
    if (std::find(remarks.begin(), remarks.end(), remark) == remarks.end())
      remarks.push_back(remark);
  }

  std::string token_of(std::int32_t id) const {
    const auto at = static_cast<std::size_t>(id);
    return at < vocabulary_.tokens.size() ? vocabulary_.tokens[at] : "";
  }

  // Readers of pieces take 0 for the unknown token unless told otherwise, and the converter, which
  // finds no text among pieces, writes no key for it.
  static bool is_default(const Named& named, std::int64_t id) {
    return id == 0 && named.key == std::string_view("unk");
  }

  std::int64_t vocab_size_;
  bool pieces_only_;
  Vocabulary& vocabulary_;
};

std::optional<bool> flag(const JsonNode& config, const char* key) {
  if (!config.has(key)) return std::nullopt;
  return config.at(key).boolean();
}

// ---- Chat templates

using Templates = std::map<std::string, std::string>;
constexpr const char* kDefault = "default";

// Adds a template, or a list of named ones.
void add_templates(const JsonNode& entry, Templates& templates) {
  if (entry.value().is_string()) {
    templates.emplace(kDefault, entry.string());
    return;
  }
  for (std::size_t i = 0; i < entry.size(); ++i)
    if (const std::string name = entry.at(i).text_or("name", ""); !name.empty())
      templates.emplace(name, entry.at(i).at("template").string());
}

// chat_template.jinja and additional_chat_templates/NAME.jinja.
Templates templates_in_files(const std::filesystem::path& folder) {
  Templates templates;
  const auto add = [&templates](const std::string& name, const std::filesystem::path& file) {
    io::refuse_placeholder(file);
    if (std::filesystem::exists(file)) templates.insert_or_assign(name, io::read_file(file));
  };
  add(kDefault, folder / "chat_template.jinja");
  std::error_code none;
  for (const auto& entry :
       std::filesystem::directory_iterator(folder / "additional_chat_templates", none))
    if (entry.path().extension() == ".jinja") add(entry.path().stem().string(), entry.path());
  return templates;
}

std::string without_returns(std::string text) {
  std::erase(text, '\r');
  return text;
}

}  // namespace

std::map<std::string, std::string> folder_chat_templates(const std::filesystem::path& folder,
                                                         const JsonNode& config,
                                                         std::vector<std::string>& remarks) {
  Templates files = templates_in_files(folder);
  Templates inside;
  if (config.has("chat_template")) add_templates(config.at("chat_template"), inside);
  if (!files.empty()) {
    for (const auto& [name, text] : inside) {
      const auto file = files.find(name);
      if (file == files.end() || without_returns(file->second) != without_returns(text))
        remarks.push_back(
            fmt::format("chat template '{}' of tokenizer_config.json is left out: the .jinja files "
                        "take its place, as in transformers",
                        name));
    }
    return files;
  }
  const io::Json alone = io::read_json_if_present(folder / "chat_template.json");
  const JsonNode node(alone, "chat_template.json", "E213");
  if (inside.empty() && node.has("chat_template")) add_templates(node.at("chat_template"), inside);
  return inside;
}

namespace {

// Names in GGUF's keys have letters, digits and underscores.
std::string key_name(std::string name) {
  for (char& c : name)
    if (std::isalnum(static_cast<unsigned char>(c)) == 0) c = '_';
  return name;
}

void read_templates(const std::filesystem::path& folder, const JsonNode& config,
                    Vocabulary& vocabulary) {
  Templates templates = folder_chat_templates(folder, config, vocabulary.remarks);
  if (templates.empty()) return;
  if (const auto main = templates.find(kDefault); main != templates.end()) {
    vocabulary.chat_template = main->second;
    templates.erase(main);
  } else {
    vocabulary.remarks.emplace_back(
        "no chat template is named \"default\": readers of the GGUF file must ask for one by name");
  }
  for (auto& [name, text] : templates)
    vocabulary.named_templates.emplace(key_name(name), std::move(text));
}

}  // namespace

void read_special_ids(const std::filesystem::path& folder, const AddedTokenId& id_of,
                      std::int64_t vocab_size, Vocabulary& vocabulary) {
  const io::Json settings = tokenizer_settings(folder, &vocabulary.remarks);
  const auto config = io::read_json_if_present(folder / "config.json");
  const auto generation = io::read_json_if_present(folder / "generation_config.json");
  const JsonNode tokenizer_node(settings, "tokenizer_config.json", "E213");
  const JsonNode config_node(config, "config.json", "E213");
  Reader reader(vocab_size, !std::filesystem::exists(folder / "tokenizer.json"), vocabulary);
  reader.from_texts(tokenizer_node, id_of);
  reader.from_ids(config_node, "config.json", false);
  if (config_node.has("text_config"))
    reader.from_ids(config_node.at("text_config"), "config.json, text_config", false);
  reader.from_ids(JsonNode(generation, "generation_config.json", "E213"), "generation_config.json",
                  true);
  reader.from_ids(config_node, "config.json", true);
  vocabulary.add_bos = flag(tokenizer_node, "add_bos_token");
  vocabulary.add_eos = flag(tokenizer_node, "add_eos_token");
  vocabulary.add_space_prefix = flag(tokenizer_node, "add_prefix_space");
  read_templates(folder, tokenizer_node, vocabulary);
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

// Texts are tokenized by tokenizer.json and the GGUF file has the pieces of tokenizer.model, so the
// two must be one vocabulary.
void check_same_vocabulary(const SentencePieceModel& model, const std::filesystem::path& folder) {
  const io::Json document = io::read_json_if_present(folder / "tokenizer.json");
  const io::Json* other = document.find("model");
  const io::Json* vocabulary = other == nullptr ? nullptr : other->find("vocab");
  if (vocabulary == nullptr || !vocabulary->is_object()) return;
  for (const io::Json::Member& member : vocabulary->members()) {
    if (!member.value.is_integer()) continue;
    const auto id = static_cast<std::size_t>(member.value.integer());
    if (id >= model.pieces.size() || model.pieces[id].text == member.name) continue;
    throw Error(
        ErrorKind::kInput, "E213",
        fmt::format("{}: token {} is {} in tokenizer.model and {} in tokenizer.json; keep the "
                    "file that the model was trained with",
                    folder.string(), id, quote_name(model.pieces[id].text),
                    quote_name(member.name)));
  }
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
  check_same_vocabulary(model, folder);
  const std::vector<AddedToken> added = read_side_tokens(folder, model);
  Vocabulary vocabulary;
  vocabulary.kind = Vocabulary::Kind::kSentencePiece;
  vocabulary.pre = "default";
  append_pieces(model, vocabulary);
  for (const AddedToken& token : added) put_added_token(token, vocabulary);
  pad_vocabulary(vocabulary, vocab_size, true);

  const auto id_of = [&](const std::string& text) -> std::optional<std::int32_t> {
    for (const AddedToken& token : added)
      if (token.content == text) return token.id;
    const std::int32_t id = model.find(text);
    if (id < 0) return std::nullopt;
    return id;
  };
  read_special_ids(folder, id_of, vocab_size, vocabulary);
  for (const auto& [name, text] : {std::pair{"bos", "<s>"}, std::pair{"eos", "</s>"}})
    if (const std::int32_t id = model.find(text); id >= 0) vocabulary.special_ids.emplace(name, id);
  if (!model.add_dummy_prefix) vocabulary.add_space_prefix = false;
  return vocabulary;
}

// ---- The files of a model

bool has_pieces(const std::filesystem::path& folder) {
  const auto pieces = folder / "tokenizer.model";
  const auto json = folder / "tokenizer.json";
  io::refuse_placeholder(pieces);
  io::refuse_placeholder(json);
  if (!std::filesystem::exists(pieces)) return false;
  if (!is_tiktoken(pieces)) return true;
  if (std::filesystem::exists(json)) return false;
  throw Error(ErrorKind::kInput, "E211",
              fmt::format("{}: is a vocabulary of tiktoken, not a SentencePiece model. Make a "
                          "tokenizer.json next to it: transformers' AutoTokenizer.from_pretrained "
                          "and save_pretrained",
                          pieces.string()));
}

namespace {

void remark_padding(Vocabulary& vocabulary) {
  std::size_t first = vocabulary.tokens.size();
  while (first > 0 && vocabulary.types[first - 1] == TokenType::kUnused &&
         vocabulary.tokens[first - 1] == pad_token(first - 1))
    --first;
  const std::size_t count = vocabulary.tokens.size() - first;
  if (count == 0) return;
  vocabulary.remarks.push_back(
      fmt::format("the tokenizer has {} tokens and the embedding {} rows: the GGUF file names the "
                  "other {} {} to {} and marks them unused",
                  first, vocabulary.tokens.size(), count, pad_token(first),
                  pad_token(vocabulary.tokens.size() - 1)));
}

}  // namespace

Vocabulary load_vocabulary(const std::filesystem::path& model, std::int64_t vocab_size,
                           const std::string& pre_override) {
  if (is_gguf(model)) {
    Vocabulary vocabulary = gguf_vocabulary(model);
    pad_vocabulary(vocabulary, vocab_size, !vocabulary.scores.empty());
    if (!pre_override.empty()) vocabulary.pre = pre_override;
    return vocabulary;
  }
  const auto json = model / "tokenizer.json";
  Vocabulary vocabulary;
  if (has_pieces(model)) {
    vocabulary = sentencepiece_vocabulary(model, vocab_size);
  } else if (std::filesystem::exists(json)) {
    vocabulary = json_vocabulary(model, vocab_size, pre_override.empty());
  } else {
    throw Error(ErrorKind::kInput, "E213",
                fmt::format("{}: has neither tokenizer.model nor tokenizer.json, and GGUF files "
                            "carry the tokenizer. Copy the tokenizer files of the model there.",
                            model.string()));
  }
  remark_padding(vocabulary);
  if (!pre_override.empty()) vocabulary.pre = pre_override;
  return vocabulary;
}

}  // namespace calque::text
