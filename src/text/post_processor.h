#pragma once

#include "calque/text/tokenizer.h"
#include "text/json_node.h"

namespace calque::text {

// The ids that a post-processor puts around one sequence.
struct Surroundings {
  TokenIds prefix;
  TokenIds suffix;
};

// From the "post_processor" of a tokenizer.json; null gives none. TemplateProcessing, ByteLevel
// (which only changes offsets) and Sequence; others are refused by name.
Surroundings read_post_processor(const JsonNode& node);

}  // namespace calque::text
