#include "text/special_ids.h"

#include <array>

#include "calque/io/file.h"
#include "text/json_node.h"

namespace calque::text {
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

  // `first_of_list`: generation configs list several ends of a text; the first is the main one.
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

// A template, or a list of named ones of which "default" counts.
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

}  // namespace calque::text
