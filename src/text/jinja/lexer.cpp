#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "text/jinja/syntax.h"
#include "text/unicode.h"

namespace calque::text::jinja {
namespace {

bool is_digit(char c) { return c >= '0' && c <= '9'; }
bool is_name_start(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' || (c & 0x80) != 0;
}
bool is_name(char c) { return is_name_start(c) || is_digit(c); }

// Line ends become \n, and the one at the end of the template is not part of it.
std::string with_unix_lines(std::string_view source) {
  std::string text;
  for (std::size_t i = 0; i < source.size(); ++i) {
    if (source[i] != '\r') {
      text += source[i];
    } else {
      text += '\n';
      if (i + 1 < source.size() && source[i + 1] == '\n') ++i;
    }
  }
  if (text.ends_with('\n')) text.pop_back();
  return text;
}

class Lexer {
 public:
  explicit Lexer(std::string_view source) : source_(with_unix_lines(source)) {}

  std::vector<Token> run() {
    while (at_ < source_.size()) {
      const std::size_t open = next_open();
      text_until(open);
      if (open < source_.size()) tag(open);
    }
    push(Token::Kind::kEnd, "");
    return std::move(tokens_);
  }

 private:
  [[noreturn]] void refuse(const std::string& message) const { throw ParseFailure{line_, message}; }

  bool at(std::size_t position, std::string_view text) const {
    return std::string_view(source_).substr(position).starts_with(text);
  }
  char character(std::size_t position) const {
    return position < source_.size() ? source_[position] : '\0';
  }

  void push(Token::Kind kind, std::string text) {
    tokens_.push_back({kind, std::move(text), line_});
  }

  // Moves to `position`; counts its lines.
  void advance(std::size_t position) {
    line_ += static_cast<std::size_t>(
        std::count(source_.begin() + static_cast<std::ptrdiff_t>(at_),
                   source_.begin() + static_cast<std::ptrdiff_t>(position), '\n'));
    at_ = position;
  }

  std::size_t after_space(std::size_t position) const {
    while (position < source_.size()) {
      std::size_t next = position;
      if (!is_space(next_code_point(source_, next))) break;
      position = next;
    }
    return position;
  }

  std::size_t next_open() const {
    for (std::size_t i = source_.find('{', at_); i != std::string::npos;
         i = source_.find('{', i + 1))
      if (const char c = character(i + 1); c == '{' || c == '%' || c == '#') return i;
    return source_.size();
  }

  // The text in front of a tag: "-" takes white space before it; without "+", a block or comment
  // takes that between the line's beginning and itself.
  std::string_view text_before(std::size_t begin, std::size_t open) const {
    const std::string_view text = std::string_view(source_).substr(begin, open - begin);
    if (open >= source_.size()) return text;
    const char sign = character(open + 2);
    if (sign == '-') return stripped(text, Side::kRight);
    if (sign == '+' || character(open + 1) == '{') return text;
    const std::size_t newline = text.rfind('\n');
    const std::size_t line = newline == std::string_view::npos ? 0 : newline + 1;
    const bool at_line = line > 0 || line_starting_;
    return at_line && stripped(text.substr(line), Side::kBoth).empty() ? text.substr(0, line)
                                                                       : text;
  }

  void text_until(std::size_t open) {
    const std::string_view text = text_before(at_, open);
    if (!text.empty()) push(Token::Kind::kText, std::string(text));
    advance(open);
  }

  // The end of a tag of blocks, comments and raw text, whose close is "%}" or "#}": "-" takes all
  // white space behind it, "+" nothing, neither one line end.
  std::size_t after_close(std::size_t position, std::string_view close) const {
    if (at(position, std::string("-").append(close)))
      return after_space(position + 1 + close.size());
    if (at(position, std::string("+").append(close))) return position + 1 + close.size();
    if (!at(position, close)) return std::string::npos;
    position += close.size();
    return character(position) == '\n' ? position + 1 : position;
  }

  void close_at(std::size_t end) {
    line_starting_ = end > 0 && source_[end - 1] == '\n';
    advance(end);
  }

  void tag(std::size_t open) {
    if (at(open, "{#")) return comment(open);
    if (at(open, "{%") && raw(open)) return;
    const bool block = character(open + 1) == '%';
    push(block ? Token::Kind::kBlockBegin : Token::Kind::kPrintBegin, "");
    const char sign = character(open + 2);
    advance(open + (sign == '-' || sign == '+' ? 3 : 2));
    line_starting_ = false;
    inside(block);
  }

  void comment(std::size_t open) {
    for (std::size_t i = open + 2; i < source_.size(); ++i)
      if (const std::size_t end = after_close(i, "#}"); end != std::string::npos)
        return close_at(end);
    refuse("a comment is not closed");
  }

  static std::size_t skip_sign(char c) { return c == '-' || c == '+' ? 1 : 0; }

  bool raw(std::size_t open) {
    std::size_t begin = after_space(open + 2 + skip_sign(character(open + 2)));
    if (!at(begin, "raw")) return false;
    begin = after_space(begin + 3);
    if (at(begin, "-%}"))
      begin = after_space(begin + 3);
    else if (at(begin, "%}"))
      begin += 2;
    else
      return false;
    line_starting_ = source_[begin - 1] == '\n';
    for (std::size_t i = source_.find("{%", begin); i != std::string::npos;
         i = source_.find("{%", i + 1)) {
      const std::size_t name = after_space(i + 2 + skip_sign(character(i + 2)));
      if (!at(name, "endraw")) continue;
      const std::size_t end = after_close(after_space(name + 6), "%}");
      if (end == std::string::npos) continue;
      advance(begin);
      text_until(i);
      close_at(end);
      return true;
    }
    refuse("{% raw %} is not closed");
  }

  // Tokens up to the tag's end. An end inside of brackets does not count.
  void inside(bool block) {
    const Token::Kind end_kind = block ? Token::Kind::kBlockEnd : Token::Kind::kPrintEnd;
    std::string brackets;
    while (true) {
      advance(after_space(at_));
      if (at_ >= source_.size()) refuse(block ? "{% is not closed" : "{{ is not closed");
      if (brackets.empty())
        if (const std::size_t end = tag_end(block); end != std::string::npos) {
          push(end_kind, "");
          return close_at(end);
        }
      const char c = source_[at_];
      if (is_digit(c))
        number();
      else if (is_name_start(c))
        name();
      else if (c == '\'' || c == '"')
        string(c);
      else
        operation(brackets);
    }
  }

  std::size_t tag_end(bool block) const {
    if (block) return after_close(at_, "%}");
    if (at(at_, "-}}")) return after_space(at_ + 3);
    return at(at_, "}}") ? at_ + 2 : std::string::npos;
  }

  void name() {
    std::size_t end = at_;
    while (end < source_.size() && is_name(source_[end])) ++end;
    push(Token::Kind::kName, source_.substr(at_, end - at_));
    advance(end);
  }

  std::size_t digits_end(std::size_t position) const {
    while (is_digit(character(position)) ||
           (character(position) == '_' && is_digit(character(position + 1))))
      ++position;
    return position;
  }

  void number() {
    std::size_t end = digits_end(at_);
    bool whole = true;
    if (character(end) == '.' && is_digit(character(end + 1))) {
      end = digits_end(end + 1);
      whole = false;
    }
    if (const char e = character(end); e == 'e' || e == 'E') {
      const std::size_t sign = skip_sign(character(end + 1));
      if (is_digit(character(end + 1 + sign))) {
        end = digits_end(end + 1 + sign);
        whole = false;
      }
    }
    if (is_name_start(character(end))) refuse("a number goes on with a letter");
    std::string text = source_.substr(at_, end - at_);
    std::erase(text, '_');
    if (whole && text.size() > 1 && text[0] == '0' &&
        text.find_first_not_of('0') != std::string::npos)
      refuse("a number begins with 0");
    push(whole ? Token::Kind::kInteger : Token::Kind::kFloat, std::move(text));
    advance(end);
  }

  void operation(std::string& brackets) {
    constexpr std::array<std::string_view, 7> kTwo = {"//", "**", "==", "!=", ">=", "<=", "%%"};
    std::string text(1, source_[at_]);
    for (const std::string_view two : kTwo)
      if (at(at_, two) && two != "%%") text = two;
    if (std::string_view("+-/*%~[](){}=<>.:|,;!").find(text[0]) == std::string_view::npos ||
        text == "!")
      refuse(fmt::format("unexpected character U+{:04X}", static_cast<unsigned char>(text[0])));
    const char c = text[0];
    if (c == '(' || c == '[' || c == '{') {
      brackets += c == '(' ? ')' : c == '[' ? ']' : '}';
    } else if (c == ')' || c == ']' || c == '}') {
      if (brackets.empty() || brackets.back() != c) refuse(fmt::format("unexpected '{}'", c));
      brackets.pop_back();
    }
    push(Token::Kind::kOperator, text);
    advance(at_ + text.size());
  }

  void string(char quote) {
    std::size_t i = at_ + 1;
    while (i < source_.size() && source_[i] != quote) i += source_[i] == '\\' ? 2 : 1;
    if (i >= source_.size()) refuse("a string is not closed");
    push(Token::Kind::kString, unescaped(std::string_view(source_).substr(at_ + 1, i - at_ - 1)));
    advance(i + 1);
  }

  // Escapes of Python's string literals.
  std::string unescaped(std::string_view literal) const {
    std::string out;
    for (std::size_t i = 0; i < literal.size(); ++i) {
      if (literal[i] != '\\') {
        out += literal[i];
        continue;
      }
      const char c = literal[++i];
      constexpr std::string_view kNamed = "\\'\"abfnrtv";
      constexpr std::string_view kMeant = "\\'\"\a\b\f\n\r\t\v";
      if (const std::size_t known = kNamed.find(c); known != std::string_view::npos)
        out += kMeant[known];
      else if (c == 'x' || c == 'u' || c == 'U')
        i += append_hexadecimal(literal.substr(i + 1), c == 'x' ? 2 : c == 'u' ? 4 : 8, out);
      else if (c >= '0' && c <= '7')
        i += append_octal(literal.substr(i), out);
      else if (c == 'N')
        refuse("the escape \\N in a string is not known");
      else if (c != '\n')
        out += {'\\', c};
    }
    return out;
  }

  std::size_t append_hexadecimal(std::string_view digits, std::size_t count,
                                 std::string& out) const {
    if (digits.size() < count) refuse("a \\ escape in a string is too short");
    char32_t code_point = 0;
    for (const char c : digits.substr(0, count)) {
      const char lower = static_cast<char>(c | 0x20);
      if (!is_digit(c) && (lower < 'a' || lower > 'f'))
        refuse("a \\ escape in a string is not hexadecimal");
      code_point =
          code_point * 16 + static_cast<char32_t>(is_digit(c) ? c - '0' : lower - 'a' + 10);
    }
    if (code_point > 0x10FFFF || (code_point >= 0xD800 && code_point < 0xE000))
      refuse("a \\ escape in a string is not a character");
    append_code_point(out, code_point);
    return count;
  }

  static std::size_t append_octal(std::string_view digits, std::string& out) {
    char32_t code_point = 0;
    std::size_t count = 0;
    while (count < 3 && count < digits.size() && digits[count] >= '0' && digits[count] <= '7')
      code_point = code_point * 8 + static_cast<char32_t>(digits[count++] - '0');
    append_code_point(out, code_point);
    return count - 1;
  }

  std::string source_;
  std::size_t at_ = 0;
  std::size_t line_ = 1;
  bool line_starting_ = true;
  std::vector<Token> tokens_;
};

}  // namespace

std::vector<Token> tokens_of(std::string_view source) { return Lexer(source).run(); }

}  // namespace calque::text::jinja
