#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace calque::text {

// Bytes [begin, end) of a text.
struct Span {
  std::size_t begin = 0;
  std::size_t end = 0;
};

// A compiled pattern of a tokenizer.json (see regex_dialect.h). Immutable, so safe to share.
class Regex {
 public:
  // Error(kInput, "E211") if the pattern is not one that can be matched faithfully.
  explicit Regex(std::string_view pattern);

  // All matches in `text` (valid UTF-8) from left to right; empty ones count unless they touch the
  // end of the match before, as in Oniguruma's Ruby interface.
  std::vector<Span> matches(std::string_view text) const;

 private:
  struct Code;
  std::shared_ptr<const Code> code_;
  std::string pattern_;
};

}  // namespace calque::text
