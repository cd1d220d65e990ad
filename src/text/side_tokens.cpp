#include <fmt/format.h>

#include <array>
#include <charconv>
#include <map>

#include "calque/core/names.h"
#include "text/bpe.h"
#include "text/sentencepiece_tokenizer.h"

namespace calque::text {
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

// {"token": id}: the older way, which keeps no flags.
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
  if (id < 0) return;  // named by default classes, never in the vocabulary
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

}  // namespace calque::text
