#include "text/pre_tokenizer.h"

#include <fmt/format.h>

#include <algorithm>
#include <memory>

#include "text/pattern.h"
#include "text/unicode.h"

namespace calque::text {

// ---- Splits at the matches of a pattern

namespace {

// Treatment of the delimiters: "the-final--countdown" cut at "-" gives
enum class SplitBehavior {
  kRemoved,             // the final countdown
  kIsolated,            // the - final - - countdown
  kMergedWithPrevious,  // the- final- - countdown
  kMergedWithNext,      // the -final - -countdown
  kContiguous,          // the - final -- countdown
};

std::vector<Span> removed(const std::vector<MarkedSpan>& parts) {
  std::vector<Span> kept;
  for (const MarkedSpan& part : parts)
    if (!part.matched) kept.push_back(part.span);
  return kept;
}

std::vector<Span> isolated(const std::vector<MarkedSpan>& parts) {
  std::vector<Span> kept;
  for (const MarkedSpan& part : parts) kept.push_back(part.span);
  return kept;
}

// Joins adjacent parts of the same kind.
std::vector<Span> contiguous(const std::vector<MarkedSpan>& parts) {
  std::vector<Span> kept;
  bool previous = false;
  for (const MarkedSpan& part : parts) {
    if (part.matched == previous && !kept.empty())
      kept.back().end = part.span.end;
    else
      kept.push_back(part.span);
    previous = part.matched;
  }
  return kept;
}

// Only the first of several delimiters in a row joins the text before it.
std::vector<Span> merged_with_previous(const std::vector<MarkedSpan>& parts) {
  std::vector<Span> kept;
  bool previous = false;
  for (const MarkedSpan& part : parts) {
    if (part.matched && !previous && !kept.empty())
      kept.back().end = part.span.end;
    else
      kept.push_back(part.span);
    previous = part.matched;
  }
  return kept;
}

// The same from right to left.
std::vector<Span> merged_with_next(const std::vector<MarkedSpan>& parts) {
  std::vector<Span> kept;
  bool previous = false;
  for (auto part = parts.rbegin(); part != parts.rend(); ++part) {
    if (part->matched && !previous && !kept.empty())
      kept.back().begin = part->span.begin;
    else
      kept.push_back(part->span);
    previous = part->matched;
  }
  std::reverse(kept.begin(), kept.end());
  return kept;
}

}  // namespace

SplitBehavior split_behavior(const JsonNode& node) {
  const std::string& name = node.string();
  if (name == "Removed") return SplitBehavior::kRemoved;
  if (name == "Isolated") return SplitBehavior::kIsolated;
  if (name == "MergedWithPrevious") return SplitBehavior::kMergedWithPrevious;
  if (name == "MergedWithNext") return SplitBehavior::kMergedWithNext;
  if (name == "Contiguous") return SplitBehavior::kContiguous;
  unsupported(node, fmt::format("'{}' is not implemented", name));
}

std::vector<Span> apply_behavior(const std::vector<MarkedSpan>& parts, SplitBehavior behavior) {
  switch (behavior) {
    case SplitBehavior::kRemoved:
      return removed(parts);
    case SplitBehavior::kIsolated:
      return isolated(parts);
    case SplitBehavior::kMergedWithPrevious:
      return merged_with_previous(parts);
    case SplitBehavior::kMergedWithNext:
      return merged_with_next(parts);
    case SplitBehavior::kContiguous:
      return contiguous(parts);
  }
  return {};
}

// ---- Steps

namespace {

// GPT-2's split, which ByteLevel applies unless use_regex is false.
constexpr std::string_view kGpt2Regex =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";

using Cutter = std::function<std::vector<MarkedSpan>(std::string_view)>;

// Replaces every piece by its parts, without parts that `behavior` removes and without empty ones.
void split_pieces(Pieces& pieces, const Cutter& cut, SplitBehavior behavior) {
  Pieces result;
  result.reserve(pieces.size());
  for (const Piece& piece : pieces)
    for (const Span part : apply_behavior(cut(piece.text), behavior))
      if (part.begin != part.end)
        result.push_back({piece.text.substr(part.begin, part.end - part.begin),
                          piece.at_start && part.begin == 0});
  pieces = std::move(result);
}

Cutter cut_by(const std::shared_ptr<const Pattern>& pattern) {
  return [pattern](std::string_view text) { return cut_at_matches(*pattern, text); };
}

// Each character for which `is_delimiter` is true is a match of its own.
Cutter cut_by(bool (*is_delimiter)(char32_t)) {
  return [is_delimiter](std::string_view text) {
    std::vector<MarkedSpan> parts;
    std::size_t previous = 0;
    for (std::size_t at = 0; at < text.size();) {
      const std::size_t begin = at;
      if (!is_delimiter(next_code_point(text, at))) continue;
      if (previous != begin) parts.push_back({{previous, begin}, false});
      parts.push_back({{begin, at}, true});
      previous = at;
    }
    if (previous != text.size()) parts.push_back({{previous, text.size()}, false});
    return parts;
  };
}

Cutter inverted(const Cutter& cut) {
  return [cut](std::string_view text) {
    auto parts = cut(text);
    for (MarkedSpan& part : parts) part.matched = !part.matched;
    return parts;
  };
}

PreTokenizer split(const JsonNode& node) {
  const SplitBehavior behavior = split_behavior(node.at("behavior"));
  Cutter cut = cut_by(std::make_shared<const Pattern>(node.at("pattern")));
  if (node.flag_or("invert", false)) cut = inverted(cut);
  return [cut, behavior](Pieces& pieces) { split_pieces(pieces, cut, behavior); };
}

PreTokenizer digits(const JsonNode& node) {
  const bool individual = node.flag_or("individual_digits", false);
  const auto behavior = individual ? SplitBehavior::kIsolated : SplitBehavior::kContiguous;
  return
      [cut = cut_by(is_numeric), behavior](Pieces& pieces) { split_pieces(pieces, cut, behavior); };
}

PreTokenizer byte_level(const JsonNode& node) {
  const bool add_space = node.flag_or("add_prefix_space", true);
  const bool use_regex = node.flag_or("use_regex", true);
  const Cutter cut = cut_by(std::make_shared<const Pattern>(TokenizerRegex(kGpt2Regex)));
  return [=](Pieces& pieces) {
    for (Piece& piece : pieces)
      if (add_space && !piece.text.starts_with(' ')) piece.text.insert(0, 1, ' ');
    if (use_regex) split_pieces(pieces, cut, SplitBehavior::kIsolated);
    for (Piece& piece : pieces) piece.text = to_byte_alphabet(piece.text);
  };
}

enum class Prepend { kAlways, kFirst, kNever };

Prepend prepend_scheme(const JsonNode& node) {
  // Tokenizer files before version 0.15 have add_prefix_space instead.
  const bool add_space = node.flag_or("add_prefix_space", true);
  const std::string scheme = node.text_or("prepend_scheme", add_space ? "always" : "never");
  if (!add_space && scheme != "never")
    node.refuse(fmt::format("add_prefix_space is false, but prepend_scheme is '{}'", scheme));
  if (scheme == "always") return Prepend::kAlways;
  if (scheme == "first") return Prepend::kFirst;
  if (scheme == "never") return Prepend::kNever;
  unsupported(node.at("prepend_scheme"), fmt::format("'{}' is not implemented", scheme));
}

std::string spaces_replaced(const std::string& text, const std::string& mark) {
  std::string result;
  result.reserve(text.size() + text.size() / 2);
  for (const char c : text) {
    if (c == ' ') {
      result += mark;
    } else {
      result += c;
    }
  }
  return result;
}

PreTokenizer metaspace(const JsonNode& node) {
  const std::string mark = node.at("replacement").string();
  if (mark.empty()) node.at("replacement").refuse("is empty");
  const Prepend scheme = prepend_scheme(node);
  const bool splits = node.flag_or("split", true);
  const Cutter cut = cut_by(std::make_shared<const Pattern>(mark));
  return [=](Pieces& pieces) {
    for (Piece& piece : pieces) {
      piece.text = spaces_replaced(piece.text, mark);
      const bool wanted =
          scheme == Prepend::kAlways || (scheme == Prepend::kFirst && piece.at_start);
      if (wanted && !piece.text.starts_with(mark)) piece.text.insert(0, mark);
    }
    if (splits) split_pieces(pieces, cut, SplitBehavior::kMergedWithNext);
  };
}

PreTokenizer sequence_of(const JsonNode& list) {
  std::vector<PreTokenizer> steps;
  for (std::size_t i = 0; i < list.size(); ++i) steps.push_back(make_pre_tokenizer(list.at(i)));
  return [steps](Pieces& pieces) {
    for (const PreTokenizer& step : steps) step(pieces);
  };
}

}  // namespace

PreTokenizer make_pre_tokenizer(const JsonNode& node) {
  if (node.value().is_null()) return [](Pieces&) {};
  const std::string& type = node.at("type").string();
  if (type == "Split") return split(node);
  if (type == "Digits") return digits(node);
  if (type == "ByteLevel") return byte_level(node);
  if (type == "Metaspace") return metaspace(node);
  if (type == "Sequence") return sequence_of(node.at("pretokenizers"));
  if (type == "WhitespaceSplit")
    return [cut = cut_by(is_white_space)](Pieces& pieces) {
      split_pieces(pieces, cut, SplitBehavior::kRemoved);
    };
  unsupported(node, fmt::format("pre-tokenizer '{}' is not implemented", type));
}

std::vector<JsonNode> flattened_pre_tokenizers(const JsonNode& node) {
  if (node.value().is_null()) return {};
  if (node.at("type").string() != "Sequence") return {node};
  std::vector<JsonNode> all;
  const JsonNode list = node.at("pretokenizers");
  for (std::size_t i = 0; i < list.size(); ++i)
    for (const JsonNode& inner : flattened_pre_tokenizers(list.at(i))) all.push_back(inner);
  return all;
}

}  // namespace calque::text
