#include "text/pattern.h"

#include <fmt/format.h>

#include "calque/core/error.h"

namespace calque::text {
namespace {

std::vector<Span> literal_matches(const std::string& wanted, std::string_view text) {
  std::vector<Span> found;
  for (std::size_t at = text.find(wanted); at != std::string_view::npos;
       at = text.find(wanted, at + wanted.size()))
    found.push_back({at, at + wanted.size()});
  return found;
}

TokenizerRegex compile(const JsonNode& node) {
  try {
    return TokenizerRegex(node.string());
  } catch (const Error& error) {
    if (error.code() != "E211") throw;
    unsupported(node, error.what());
  }
}

}  // namespace

Pattern::Pattern(const JsonNode& node) {
  if (node.has("String")) {
    what_ = node.at("String").string();
    if (std::get<std::string>(what_).empty()) unsupported(node, "is an empty string");
  } else if (node.has("Regex")) {
    what_ = compile(node.at("Regex"));
  } else {
    unsupported(node, "is neither a String nor a Regex");
  }
}

std::vector<Span> Pattern::matches(std::string_view text) const {
  if (const auto* literal = std::get_if<std::string>(&what_))
    return literal_matches(*literal, text);
  return std::get<TokenizerRegex>(what_).matches(text);
}

std::vector<MarkedSpan> cut_at_matches(const Pattern& pattern, std::string_view text) {
  std::vector<MarkedSpan> parts;
  std::size_t previous = 0;
  for (const Span match : pattern.matches(text)) {
    if (previous != match.begin) parts.push_back({{previous, match.begin}, false});
    parts.push_back({match, true});
    previous = match.end;
  }
  if (previous != text.size()) parts.push_back({{previous, text.size()}, false});
  return parts;
}

}  // namespace calque::text
