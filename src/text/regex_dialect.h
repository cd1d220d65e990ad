#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "calque/text/regex.h"

namespace calque::text {

// tokenizer.json patterns are written for Oniguruma (Ruby syntax); the engine here is PCRE2.
// Returns the same pattern in PCRE2's dialect. Where both engines would accept a construct and read
// it differently, it is translated (\s, \uXXXX, \p{Han}) or refused: Error(kInput) with the
// construct and its byte offset, for the caller to say where the pattern stands.
std::string to_pcre2(std::string_view pattern);

// A compiled pattern of a tokenizer.json. Immutable, so safe to share.
class TokenizerRegex {
 public:
  // Error(kInput, "E211") if the pattern is not one that can be matched faithfully.
  explicit TokenizerRegex(std::string_view pattern);

  // All matches in `text` (valid UTF-8) from left to right; empty ones count unless they touch the
  // end of the match before, as in Oniguruma's Ruby interface.
  std::vector<Span> matches(std::string_view text) const;

 private:
  Regex regex_;
};

}  // namespace calque::text
