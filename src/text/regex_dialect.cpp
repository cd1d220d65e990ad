#include "text/regex_dialect.h"

#include <fmt/format.h>

#include <optional>
#include <vector>

#include "calque/core/error.h"
#include "text/unicode.h"

namespace calque::text {
namespace {

// Unicode White_Space and its complement as the inside of a class: PCRE2's \s has U+180E besides,
// and a negated class cannot be spelled inside another one.
constexpr std::string_view kSpaces =
    R"(\x{9}-\x{D}\x{20}\x{85}\x{A0}\x{1680}\x{2000}-\x{200A}\x{2028}\x{2029}\x{202F}\x{205F}\x{3000})";
constexpr std::string_view kNotSpaces =
    R"(\x{0}-\x{8}\x{E}-\x{1F}\x{21}-\x{84}\x{86}-\x{9F}\x{A1}-\x{167F}\x{1681}-\x{1FFF})"
    R"(\x{200B}-\x{2027}\x{202A}-\x{202E}\x{2030}-\x{205E}\x{2060}-\x{2FFF}\x{3001}-\x{10FFFF})";

bool is_hex(char c) {
  return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F');
}
bool is_upper(char c) { return c >= 'A' && c <= 'Z'; }
bool is_lower(char c) { return c >= 'a' && c <= 'z'; }
bool is_letter_or_digit(char c) { return is_upper(c) || is_lower(c) || (c >= '0' && c <= '9'); }

class Translator {
 public:
  explicit Translator(std::string_view pattern) : in_(pattern) {}

  std::string run() {
    while (at_ < in_.size()) step();
    if (in_class_) refuse("a class without its ']'");
    return std::move(out_);
  }

 private:
  [[noreturn]] void refuse(std::string_view what) const {
    throw Error(
        ErrorKind::kInput, "E211",
        fmt::format("uses {} (offset {}), which this regex engine would misread", what, at_));
  }

  bool next_is(std::string_view text) const { return in_.substr(at_).starts_with(text); }
  void copy(std::size_t count) {
    out_ += in_.substr(at_, count);
    at_ += count;
  }
  void replace(std::size_t count, std::string_view by) {
    out_ += by;
    at_ += count;
  }

  void step() {
    if (in_[at_] == '\\') return escape();
    return in_class_ ? class_character() : plain_character();
  }

  void class_character() {
    if (next_is("&&")) refuse("class intersection '&&'");
    if (next_is("[")) refuse("a '[' inside a class");
    if (next_is("]")) in_class_ = false;
    copy(1);
  }

  void plain_character() {
    switch (in_[at_]) {
      case '[':
        return open_class();
      case '(':
        return open_group();
      case ')':
        if (caseless_.size() > 1) caseless_.pop_back();
        return copy(1);
      case '{':
        return interval();
      default:
        return copy(1);
    }
  }

  void open_class() {
    copy(next_is("[^") ? 2 : 1);
    if (next_is("]")) refuse("a class that begins with ']'");
    in_class_ = true;
  }

  void open_group() {
    const bool plain = !next_is("(?");
    bool known = plain;
    for (const std::string_view opening : {"(?:", "(?i:", "(?=", "(?!", "(?<=", "(?<!", "(?>"})
      known = known || next_is(opening);
    if (!known) refuse(fmt::format("the group '{}'", in_.substr(at_, 4)));
    caseless_.push_back(caseless_.back() || next_is("(?i:"));
    copy(plain ? 1 : 2);
  }

  // Ruby reads "{2}+" as a repeated repetition, Perl as a possessive one; "{,2}" is literal in
  // Perl.
  void interval() {
    const std::size_t end = in_.find('}', at_);
    if (end == std::string_view::npos) return copy(1);
    if (next_is("{,")) refuse("'{,'");
    if (in_.substr(end + 1, 1) == "+") refuse("'}+'");
    copy(end + 1 - at_);
  }

  void escape() {
    if (at_ + 1 >= in_.size()) refuse("a '\\' at the end");
    const char c = in_[at_ + 1];
    switch (c) {
      case 's':
        return replace(2, in_class_ ? std::string(kSpaces) : fmt::format("[{}]", kSpaces));
      case 'S':
        return replace(2, in_class_ ? std::string(kNotSpaces) : fmt::format("[^{}]", kSpaces));
      case 'p':
      case 'P':
        return property();
      case 'u':
        return code_unit();
      case 'x':
        return hexadecimal();
      case 'v':
        return replace(2, "\\x{B}");
      case 'd':
      case 'D':
      case 'r':
      case 'n':
      case 't':
      case 'f':
        return copy(2);
      default:
        if (is_letter_or_digit(c)) refuse(fmt::format("'\\{}'", c));
        return copy(2);
    }
  }

  void code_unit() {
    const std::string_view digits = in_.substr(at_ + 2, 4);
    bool hex = digits.size() == 4;
    for (const char c : digits) hex = hex && is_hex(c);
    if (!hex) refuse("'\\u' without four hex digits");
    replace(6, fmt::format("\\x{{{}}}", digits));
  }

  void hexadecimal() {
    const std::string_view rest = in_.substr(at_ + 2);
    if (rest.starts_with('{')) {
      const std::size_t end = rest.find('}');
      if (end == std::string_view::npos) refuse("'\\x{' without '}'");
      return copy(end + 3);
    }
    // \x80 and above would be a byte of UTF-8 there, a code point here.
    if (rest.size() < 2 || !is_hex(rest[0]) || !is_hex(rest[1]) || rest[0] > '7')
      refuse("'\\x' without two hex digits below 80");
    copy(4);
  }

  void property() {
    const std::size_t end = in_.find('}', at_);
    if (in_.substr(at_ + 2, 1) != "{" || end == std::string_view::npos)
      refuse("'\\p' without braces");
    std::string_view name = in_.substr(at_ + 3, end - at_ - 3);
    const bool negated = name.starts_with('^');
    if (negated) name.remove_prefix(1);
    out_ += fmt::format("\\{}{{{}{}}}", in_[at_ + 1], negated ? "^" : "", property_name(name));
    at_ = end + 1;
  }

  std::string property_name(std::string_view name) const {
    const bool category = !name.empty() && name.size() <= 2 && is_upper(name[0]) &&
                          (name.size() == 1 || is_lower(name[1]));
    // Without case, Perl's \p{Lu} is every cased letter, Ruby's still upper case.
    if (caseless_.back() && (name == "Lu" || name == "Ll" || name == "Lt"))
      refuse(fmt::format("'\\p{{{}}}' without case", name));
    if (category) return std::string(name);
    // A script: PCRE2's \p{Han} alone would mean the script extensions.
    for (const char c : name)
      if (!is_letter_or_digit(c) && c != '_') refuse(fmt::format("'\\p{{{}}}'", name));
    return fmt::format("sc:{}", name);
  }

  std::string_view in_;
  std::string out_;
  std::size_t at_ = 0;
  bool in_class_ = false;
  std::vector<bool> caseless_{false};  // by open group
};

constexpr std::size_t kMaxPatternBytes = 1 << 16;

[[noreturn]] void refuse_pattern(const std::string& reason) {
  throw Error(ErrorKind::kInput, "E211", reason);
}

Regex compile(std::string_view pattern) {
  if (pattern.size() > kMaxPatternBytes)
    refuse_pattern(
        fmt::format("is {} bytes long; at most {} are accepted", pattern.size(), kMaxPatternBytes));
  const std::string translated = to_pcre2(pattern);
  try {
    return {translated, {.unicode_lines = true}};
  } catch (const RegexError& error) {
    const std::size_t offset = error.offset();
    refuse_pattern(fmt::format("cannot be compiled: {} (near '{}')", error.what(),
                               translated.substr(offset > 8 ? offset - 8 : 0, 16)));
  }
}

std::optional<Span> find(Regex::Search& search, std::size_t start) {
  try {
    return search.from(start);
  } catch (const RegexError& error) {
    refuse_pattern(fmt::format("cannot be matched: {}", error.what()));
  }
}

}  // namespace

std::string to_pcre2(std::string_view pattern) { return Translator(pattern).run(); }

TokenizerRegex::TokenizerRegex(std::string_view pattern) : regex_(compile(pattern)) {}

std::vector<Span> TokenizerRegex::matches(std::string_view text) const {
  std::vector<Span> found;
  Regex::Search search(regex_, text);
  std::size_t start = 0;
  std::optional<std::size_t> last_end;
  while (start <= text.size()) {
    const auto match = find(search, start);
    if (!match) break;
    if (match->begin == match->end && match->end == last_end) {
      if (start == text.size()) break;
      next_code_point(text, start);
      continue;
    }
    found.push_back(*match);
    start = match->end;
    last_end = start;
  }
  return found;
}

}  // namespace calque::text
