#pragma once

#include "calque/text/tokenizer.h"

namespace calque::text {

// Each byte is a token with the byte's value, "^" (94) is the beginning of a text: ids that a test
// can write down.
class ByteTokenizer final : public Tokenizer {
 public:
  TokenIds encode(std::string_view text, bool) const override {
    TokenIds ids;
    for (const char c : text) ids.push_back(static_cast<unsigned char>(c));
    return ids;
  }
  TokenIds prefix() const override { return {'^'}; }
  TokenIds suffix() const override { return {'$'}; }
  std::int64_t vocab_size() const override { return 256; }
  std::optional<std::int32_t> id_of(std::string_view token) const override {
    return static_cast<unsigned char>(token.front());
  }
  std::string token(std::int32_t id) const override {
    return std::string(1, static_cast<char>(id));
  }
  std::string decode(const TokenIds& ids) const override {
    std::string text;
    for (const std::int32_t id : ids) text += token(id);
    return text;
  }
  std::string description() const override { return "bytes"; }
};

}  // namespace calque::text
