#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "calque/text/regex.h"

namespace calque::text {

// Translates a pattern to PCRE2's dialect. tokenizer.json patterns are written for Oniguruma (Ruby
// syntax). A construct that both engines accept but interpret differently is translated (\s,
// \uXXXX, \p{Han}) or refused: Error(kInput) with the construct and its byte offset; the caller
// adds the place of the pattern.
std::string to_pcre2(std::string_view pattern);

// A compiled pattern of a tokenizer.json. Immutable, so it can be shared.
class TokenizerRegex {
 public:
  // Error(kInput, "E211") if the pattern cannot be matched faithfully.
  explicit TokenizerRegex(std::string_view pattern);

  // All matches in `text` (valid UTF-8) from left to right. Empty matches count unless they touch
  // the end of the previous match, as in Oniguruma's Ruby interface.
  std::vector<Span> matches(std::string_view text) const;

 private:
  Regex regex_;
};

}  // namespace calque::text
