#pragma once

#include <vector>

#include "text/json_node.h"
#include "text/pattern.h"

namespace calque::text {

// What becomes of the delimiters: "the-final--countdown" cut at "-" gives
enum class SplitBehavior {
  kRemoved,             // the final countdown
  kIsolated,            // the - final - - countdown
  kMergedWithPrevious,  // the- final- - countdown
  kMergedWithNext,      // the -final - -countdown
  kContiguous,          // the - final -- countdown
};
SplitBehavior split_behavior(const JsonNode& node);

std::vector<Span> apply_behavior(const std::vector<MarkedSpan>& parts, SplitBehavior behavior);

}  // namespace calque::text
