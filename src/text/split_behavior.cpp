#include "text/split_behavior.h"

#include <fmt/format.h>

#include <algorithm>

namespace calque::text {
namespace {

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

// Neighbours of one kind become one.
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

// Only the first of several delimiters in a row joins what stands before it.
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

// The same from the right.
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

}  // namespace calque::text
