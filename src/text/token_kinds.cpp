#include "text/token_kinds.h"

#include <fmt/format.h>

#include <cctype>

#include "calque/core/error.h"

namespace calque::text {
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

}  // namespace calque::text
