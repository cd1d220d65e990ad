#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>

namespace calque::text {

// Bytes [begin, end) of a text.
struct Span {
  std::size_t begin = 0;
  std::size_t end = 0;
};

// A pattern that cannot be compiled or matched. The caller knows where the pattern came from.
class RegexError : public std::runtime_error {
 public:
  RegexError(const std::string& reason, std::size_t offset)
      : std::runtime_error(reason), offset_(offset) {}
  std::size_t offset() const { return offset_; }  // position in the pattern where compiling stopped

 private:
  std::size_t offset_;
};

// A compiled PCRE2 regular expression. Immutable, so it can be shared between threads.
class Regex {
 public:
  struct Options {
    // Patterns and texts are valid UTF-8; classes follow Unicode; ^ and $ match at every line.
    bool unicode_lines = false;
    bool anchored = false;  // a match must begin where the search begins
    // Steps after which a match is abandoned (RegexError). 0: PCRE2's own limit, and just-in-time
    // compiled code if the processor supports it, with the same matches.
    std::uint32_t match_limit = 0;
  };
  // Throws RegexError if `pattern` is not a valid regular expression.
  Regex(std::string_view pattern, const Options& options);

  // Searches one text repeatedly, with its own scratch memory. Borrows both arguments.
  class Search {
   public:
    Search(const Regex& regex, std::string_view text);
    ~Search();
    Search(const Search&) = delete;
    Search& operator=(const Search&) = delete;
    // The first match that begins at or after `start`. Throws RegexError if the search is
    // abandoned.
    std::optional<Span> from(std::size_t start);

    struct Match {
      Span whole;
      Span group;  // the first group that took part; the whole match where there is none
    };
    std::optional<Match> match_from(std::size_t start);

   private:
    int match(std::size_t start, std::uint32_t options);
    int match_or_throw(std::size_t start);  // groups that were set, with the whole; 0: no match

    const Regex& regex_;
    std::string_view text_;
    struct Scratch;
    std::unique_ptr<Scratch> scratch_;
  };

  // True if `text` matches from its beginning.
  bool matches(std::string_view text) const { return Search(*this, text).from(0).has_value(); }

 private:
  struct Code;
  std::shared_ptr<const Code> code_;
  Options options_;
};

}  // namespace calque::text
