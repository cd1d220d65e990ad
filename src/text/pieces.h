#pragma once

#include <string>
#include <string_view>

namespace calque::text {

constexpr std::string_view kMetaspaceMark = "\xE2\x96\x81";  // U+2581

// The way in which the tokens of a vocabulary spell bytes.
enum class Spelling {
  kByteAlphabet,  // each byte is a printable character (text/unicode.h)
  kMetaspace,     // text with U+2581 for spaces; "<0x0A>" is one byte
};

// Appends the bytes of a token. One that is not spelled so is appended as it is.
void append_piece(std::string_view token, Spelling spelling, std::string& bytes);

}  // namespace calque::text
