#pragma once

#include <string>
#include <variant>
#include <vector>

#include "text/json_node.h"
#include "text/regex_dialect.h"

namespace calque::text {

// What Split and Replace look for: {"String": "..."} literally, or {"Regex": "..."}.
class Pattern {
 public:
  explicit Pattern(const JsonNode& node);
  explicit Pattern(TokenizerRegex regex) : what_(std::move(regex)) {}
  explicit Pattern(std::string literal) : what_(std::move(literal)) {}

  std::vector<Span> matches(std::string_view text) const;

 private:
  std::variant<std::string, TokenizerRegex> what_;
};

// A part of a text, and whether the pattern matched it or it lies between matches.
struct MarkedSpan {
  Span span;
  bool matched = false;
};
// `text` cut at the matches: all of it, in order.
std::vector<MarkedSpan> cut_at_matches(const Pattern& pattern, std::string_view text);

}  // namespace calque::text
