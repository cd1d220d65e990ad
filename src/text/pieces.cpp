#include "text/pieces.h"

#include <charconv>
#include <optional>

#include "text/unicode.h"

namespace calque::text {
namespace {

// The byte of "<0x0A>"; nullopt for other tokens.
std::optional<char> byte_token(std::string_view token) {
  if (token.size() != 6 || !token.starts_with("<0x") || token[5] != '>') return std::nullopt;
  unsigned value = 0;
  const auto parsed = std::from_chars(token.data() + 3, token.data() + 5, value, 16);
  if (parsed.ec != std::errc() || parsed.ptr != token.data() + 5) return std::nullopt;
  return static_cast<char>(value);
}

}  // namespace

void append_piece(std::string_view token, Spelling spelling, std::string& bytes) {
  if (spelling == Spelling::kByteAlphabet) {
    bytes += from_byte_alphabet(token).value_or(std::string(token));
    return;
  }
  if (const std::optional<char> byte = byte_token(token)) {
    bytes += *byte;
    return;
  }
  for (std::size_t at = 0; at < token.size();) {
    const bool space = token.substr(at).starts_with(kMetaspaceMark);
    bytes += space ? ' ' : token[at];
    at += space ? kMetaspaceMark.size() : 1;
  }
}

}  // namespace calque::text
