#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace calque::text {

// GPT-2's byte alphabet: each of the 256 bytes has a printable character of its own, so that a
// vocabulary of byte strings can be written as text. Printable Latin-1 bytes stand for themselves;
// the other 68 take U+0100 onward in order (a space is U+0120).
std::string to_byte_alphabet(std::string_view bytes);

// The bytes that `text` stands for; nothing if it holds a character outside the alphabet.
std::optional<std::string> from_byte_alphabet(std::string_view text);

}  // namespace calque::text
