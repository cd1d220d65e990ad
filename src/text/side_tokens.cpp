#include "text/side_tokens.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <charconv>
#include <fstream>
#include <map>
#include <string_view>

#include "calque/core/error.h"
#include "calque/core/names.h"
#include "text/bpe.h"
#include "text/string_map.h"

namespace calque::text {
namespace {

namespace fs = std::filesystem;
using io::Json;

constexpr const char* kDecoder = "added_tokens_decoder";

// The text of a token that is given as such or as an object; nullopt for anything else, as null.
std::optional<std::string> text_of(const Json& entry) {
  if (entry.is_string()) return entry.string();
  const Json* content = entry.find("content");
  if (content == nullptr || !content->is_string()) return std::nullopt;
  return content->string();
}

void remark_difference(const std::string& key, const Json& used, const char* file,
                       const Json* other, const char* other_file,
                       std::vector<std::string>* remarks) {
  if (remarks == nullptr || other == nullptr || !key.ends_with("_token")) return;
  const auto text = text_of(used);
  const auto other_text = text_of(*other);
  if (!text || !other_text || *text == *other_text) return;
  remarks->push_back(fmt::format("{} is {} in {} and {} in {}; transformers reads the first", key,
                                 quote_name(*text), file, quote_name(*other_text), other_file));
}

// ---- Tokens by id

struct Found {
  AddedToken token;
  const char* file = "";
};
using TokensById = std::map<std::int32_t, Found>;

std::int32_t id_from_key(const JsonNode& decoder, const std::string& key) {
  std::int32_t id = -1;
  const auto [end, error] = std::from_chars(key.data(), key.data() + key.size(), id);
  if (error != std::errc() || end != key.data() + key.size() || id < 0 || id > kMaxTokenId)
    decoder.refuse(fmt::format("{} is not a token id", quote_name(key)));
  return id;
}

// The first file decides the flags; the text must be the same everywhere.
void put(AddedToken token, const char* file, TokensById& tokens) {
  const std::int32_t id = token.id;
  const auto [place, fresh] = tokens.emplace(id, Found{token, file});
  if (fresh || place->second.token.content == token.content) return;
  throw Error(ErrorKind::kInput, "E213",
              fmt::format("token {} is {} in {} and {} in {}; make them agree", id,
                          quote_name(place->second.token.content), place->second.file,
                          quote_name(token.content), file));
}

void read_decoder(const JsonNode& settings, TokensById& tokens) {
  if (!settings.has(kDecoder)) return;
  const JsonNode decoder = settings.at(kDecoder);
  decoder.for_each_member([&](const std::string& key, const JsonNode& token) {
    put(read_added_token(token, id_from_key(decoder, key)), "tokenizer_config.json", tokens);
  });
}

void read_tokenizer_json(const Json& document, TokensById& tokens) {
  const JsonNode root(document, "tokenizer.json", "E213");
  if (!root.has("added_tokens")) return;
  const JsonNode list = root.at("added_tokens");
  for (std::size_t i = 0; i < list.size(); ++i)
    put(read_added_token(list.at(i)), "tokenizer.json", tokens);
}

// {"token": id}: the older form, without flags.
void read_plain_list(const fs::path& folder, TokensById& tokens) {
  const Json list = io::read_json_if_present(folder / "added_tokens.json");
  JsonNode(list, "added_tokens.json", "E213")
      .for_each_member([&](const std::string& content, const JsonNode& value) {
        const auto id = static_cast<std::int32_t>(value.integer(0, kMaxTokenId));
        put({.id = id, .content = content}, "added_tokens.json", tokens);
      });
}

// Tokens named by class defaults need not be in the vocabulary.
void mark_special(const std::string& content, const ModelTokenId& id_in_model, TokensById& tokens) {
  for (auto& [id, found] : tokens)
    if (found.token.content == content) {
      found.token.special = true;
      return;
    }
  const auto id = id_in_model(content);
  if (!id) return;
  Found& found = tokens[*id];
  found.token = {.id = *id, .content = content, .special = true};
}

TokensById all_tokens(const fs::path& folder, const Json& tokenizer_json,
                      const ModelTokenId& id_in_model) {
  const Json settings = tokenizer_settings(folder);
  const JsonNode root(settings, "tokenizer_config.json", "E213");
  TokensById tokens;
  read_decoder(root, tokens);
  read_tokenizer_json(tokenizer_json, tokens);
  read_plain_list(folder, tokens);
  for (const std::string& name : named_special_tokens(root))
    mark_special(name, id_in_model, tokens);
  return tokens;
}

// ---- The model of a tokenizer.json

// The ids of `wanted` in a vocabulary that is an object of ids or a list of pairs.
StringMap<std::int32_t> ids_in_model(const Json& document, const std::vector<std::string>& wanted) {
  StringMap<std::int32_t> ids;
  const Json* model = document.find("model");
  const Json* vocabulary = model == nullptr ? nullptr : model->find("vocab");
  if (vocabulary == nullptr || !vocabulary->is_object()) return ids;
  StringMap<std::int32_t> sought;
  for (const std::string& text : wanted) sought.emplace(text, 0);
  for (const Json::Member& member : vocabulary->members())
    if (sought.find(member.name) != sought.end() && member.value.is_integer())
      ids.emplace(member.name, static_cast<std::int32_t>(member.value.integer()));
  return ids;
}

Json entry_of(const AddedToken& token) {
  return {{"id", token.id},          {"content", token.content}, {"single_word", token.single_word},
          {"lstrip", token.lstrip},  {"rstrip", token.rstrip},   {"normalized", token.normalized},
          {"special", token.special}};
}

}  // namespace

Json tokenizer_settings(const fs::path& folder, std::vector<std::string>* remarks) {
  constexpr const char* kConfig = "tokenizer_config.json";
  constexpr const char* kMap = "special_tokens_map.json";
  Json settings = io::read_json_if_present(folder / kConfig);
  if (settings.is_null()) settings = Json::object();
  JsonNode(settings, kConfig, "E213").expect_object();
  const Json map = io::read_json_if_present(folder / kMap);
  JsonNode(map, kMap, "E213").expect_object();
  const bool listed = settings.contains(kDecoder);
  for (const Json::Member& member : map.members()) {
    const Json* before = settings.find(member.name);
    if (listed) {
      if (before != nullptr)
        remark_difference(member.name, *before, kConfig, &member.value, kMap, remarks);
      continue;
    }
    remark_difference(member.name, member.value, kMap, before, kConfig, remarks);
    settings[member.name] = member.value;
  }
  return settings;
}

std::vector<std::string> named_special_tokens(const JsonNode& settings) {
  std::vector<std::string> names;
  const auto add = [&names](const Json& entry) {
    if (auto text = text_of(entry); text && !text->empty()) names.push_back(std::move(*text));
  };
  settings.for_each_member([&](const std::string& key, const JsonNode& value) {
    if (key == "additional_special_tokens" || key == "extra_special_tokens") {
      if (value.value().is_array())
        for (const Json& entry : value.value().elements()) add(entry);
      if (value.value().is_object())
        for (const Json::Member& member : value.value().members()) add(member.value);
    } else if (key.ends_with("_token")) {
      add(value.value());
    }
  });
  return names;
}

std::vector<AddedToken> side_tokens(const fs::path& folder, const ModelTokenId& id_in_model) {
  std::vector<AddedToken> list;
  const Json document = io::read_json_if_present(folder / "tokenizer.json");
  for (auto& [id, found] : all_tokens(folder, document, id_in_model))
    list.push_back(std::move(found.token));
  return list;
}

Json with_side_tokens(Json document, const fs::path& folder) {
  const Json settings = tokenizer_settings(folder);
  const StringMap<std::int32_t> ids = ids_in_model(
      document, named_special_tokens(JsonNode(settings, "tokenizer_config.json", "E213")));
  const auto id_in_model = [&ids](const std::string& text) -> std::optional<std::int32_t> {
    const auto found = ids.find(text);
    if (found == ids.end()) return std::nullopt;
    return found->second;
  };
  TokensById tokens = all_tokens(folder, document, id_in_model);
  Json list = Json::array();
  if (const Json* given = document.find("added_tokens"); given != nullptr)
    for (const Json& entry : given->elements()) {
      const auto found = tokens.find(static_cast<std::int32_t>(entry.at("id").integer()));
      Json same = entry;
      if (found != tokens.end() && found->second.token.special) same["special"] = true;
      list.push_back(std::move(same));
      if (found != tokens.end()) tokens.erase(found);  // an entry may be there twice
    }
  for (const auto& [id, found] : tokens) list.push_back(entry_of(found.token));
  document["added_tokens"] = std::move(list);
  return document;
}

bool is_tiktoken(const fs::path& file) {
  std::array<char, 512> begin{};
  std::ifstream stream(file, std::ios::binary);
  stream.read(begin.data(), begin.size());
  const std::string_view text(begin.data(), static_cast<std::size_t>(stream.gcount()));
  const std::string_view line = text.substr(0, text.find('\n'));
  const std::size_t space = line.find(' ');
  if (space == std::string_view::npos || space == 0 || space % 4 != 0) return false;
  const auto is_base64 = [](unsigned char c) {
    return std::isalnum(c) != 0 || c == '+' || c == '/' || c == '=';
  };
  const std::string_view rank = line.substr(space + 1);
  return !rank.empty() &&
         std::all_of(line.begin(), line.begin() + static_cast<std::ptrdiff_t>(space), is_base64) &&
         std::all_of(rank.begin(), rank.end(),
                     [](unsigned char c) { return std::isdigit(c) != 0 || c == '\r'; });
}

}  // namespace calque::text
