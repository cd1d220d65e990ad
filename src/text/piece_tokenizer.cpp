// SentencePiece's BPE from the tokens and scores of a GGUF file: the model is written as the
// protocol buffer that the library reads (field numbers from sentencepiece_model.proto).
#include <algorithm>
#include <bit>

#include "calque/core/error.h"
#include "text/gguf_tokenizer.h"
#include "text/sentencepiece_tokenizer.h"
#include "text/token_kinds.h"

namespace calque::text {
namespace {

using TokenType = Vocabulary::TokenType;

constexpr std::string_view kMetaspace = "\xE2\x96\x81";  // U+2581

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

// Converters give this score to tokens that are cut out before the model sees the text; what the
// model itself knows as user-defined keeps its own.
bool is_added(const Vocabulary& vocabulary, std::size_t id) {
  const TokenType type = vocabulary.types[id];
  if (type == TokenType::kUserDefined) return vocabulary.scores[id] <= kAddedScore;
  return type == TokenType::kControl || type == TokenType::kUnknown;
}

// Rows of the embedding without a token.
std::size_t without_padding(const Vocabulary& vocabulary) {
  std::size_t count = vocabulary.tokens.size();
  while (count > 0 && vocabulary.types[count - 1] == TokenType::kUnused &&
         vocabulary.tokens[count - 1] == pad_token(count - 1))
    --count;
  return count;
}

std::string with_metaspaces(const std::string& text) {
  std::string result;
  for (const char c : text) c == ' ' ? result += kMetaspace : result += c;
  return result;
}

std::string piece_message(const Vocabulary& vocabulary, std::size_t id) {
  const TokenType type = vocabulary.types[id];
  const bool hidden = type == TokenType::kUserDefined && is_added(vocabulary, id);
  std::string piece;
  put_bytes(piece, 1, with_metaspaces(vocabulary.tokens[id]));
  put_float(piece, 2, vocabulary.scores[id]);
  put_number(piece, 3, static_cast<std::uint64_t>(hidden ? TokenType::kControl : type));
  return piece;
}

std::string trainer_message(const Vocabulary& vocabulary) {
  const bool bytes =
      std::count(vocabulary.types.begin(), vocabulary.types.end(), TokenType::kByte) > 0;
  std::string trainer;
  put_number(trainer, 3, static_cast<std::uint64_t>(SentencePieceModel::Algorithm::kBpe));
  put_number(trainer, 35, bytes ? 1 : 0);  // byte_fallback
  return trainer;
}

// The text as it is, but for spaces, as readers of these files take it.
std::string normalizer_message(const Vocabulary& vocabulary) {
  std::string normalizer;
  put_bytes(normalizer, 1, "identity");
  put_number(normalizer, 3, vocabulary.add_space_prefix.value_or(true) ? 1 : 0);
  put_number(normalizer, 4, 0);  // remove_extra_whitespaces
  put_number(normalizer, 5, 1);  // escape_whitespaces
  return normalizer;
}

std::string serialized_model(const Vocabulary& vocabulary, std::size_t count) {
  std::string model;
  for (std::size_t id = 0; id < count; ++id) put_bytes(model, 1, piece_message(vocabulary, id));
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

}  // namespace

std::unique_ptr<Tokenizer> piece_tokenizer(const Vocabulary& vocabulary, const std::string& name) {
  if (std::count(vocabulary.types.begin(), vocabulary.types.end(), TokenType::kUnknown) != 1)
    throw Error(ErrorKind::kInput, "E211",
                "the tokenizer needs exactly one unknown token (tokenizer.ggml.token_type 2)");
  const std::size_t count = without_padding(vocabulary);
  // The flags that are not in the file are the ones that llama.cpp takes.
  return make_sentencepiece_tokenizer(
      parse_sentencepiece_model(serialized_model(vocabulary, count)),
      added_tokens(vocabulary, count),
      {.prefix = special_ids(vocabulary, "bos", vocabulary.add_bos.value_or(true)),
       .suffix = special_ids(vocabulary, "eos", vocabulary.add_eos.value_or(false))},
      name);
}

}  // namespace calque::text
