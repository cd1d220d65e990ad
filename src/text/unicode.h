#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>

namespace calque::text {

// `text` as valid UTF-8: every maximal ill-formed part becomes one U+FFFD (Unicode 15, section 3.9,
// "U+FFFD Substitution of Maximal Subparts"; Python and Rust do the same). Sets `replaced` if there
// was one, otherwise leaves it alone.
std::string replace_invalid_utf8(std::string_view text, bool& replaced);
bool is_valid_utf8(std::string_view text);

// The code point at `position` of valid UTF-8; moves `position` past it.
char32_t next_code_point(std::string_view text, std::size_t& position);
// The code point that ends before `end` (> 0) of valid UTF-8.
char32_t last_code_point(std::string_view text, std::size_t end);
void append_code_point(std::string& text, char32_t code_point);

// Unicode White_Space, the set that Rust and Oniguruma call spaces (PCRE2 adds U+180E).
bool is_white_space(char32_t code_point);
// General category N: Rust's char::is_numeric.
bool is_numeric(char32_t code_point);
// UTS 18 word character: Alphabetic, M, Nd, Pc or Join_Control; Rust's \w.
bool is_word_character(char32_t code_point);

enum class NormalForm { kNfc, kNfd, kNfkc, kNfkd };
std::string normalized(std::string_view text, NormalForm form);
// Full, context-free lower case: Rust's char::to_lowercase of each character.
std::string lower_case(std::string_view text);

// GPT-2's byte alphabet: each of the 256 bytes has its own printable character, so that a
// vocabulary of byte strings can be written as text. Printable Latin-1 bytes stand for themselves;
// the other 68 become U+0100 onward in order (a space is U+0120).
std::string to_byte_alphabet(std::string_view bytes);

// The bytes that `text` stands for; nullopt if it has a character outside the alphabet.
std::optional<std::string> from_byte_alphabet(std::string_view text);

}  // namespace calque::text
