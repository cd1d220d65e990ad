#pragma once

#include <string>
#include <variant>
#include <vector>

#include "text/json_node.h"
#include "text/regex_dialect.h"

namespace calque::text {

// The pattern of Split and Replace: {"String": "..."} literally, or {"Regex": "..."}.
class Pattern {
 public:
  explicit Pattern(const JsonNode& node);
  explicit Pattern(TokenizerRegex regex) : what_(std::move(regex)) {}
  explicit Pattern(std::string literal) : what_(std::move(literal)) {}

  std::vector<Span> matches(std::string_view text) const;

 private:
  std::variant<std::string, TokenizerRegex> what_;
};

// A part of a text: a match of the pattern, or the text between two matches.
struct MarkedSpan {
  Span span;
  bool matched = false;
};
// Cuts `text` at the matches; the parts cover all of it, in order.
std::vector<MarkedSpan> cut_at_matches(const Pattern& pattern, std::string_view text);

}  // namespace calque::text
