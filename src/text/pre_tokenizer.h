#pragma once

#include <functional>
#include <string>
#include <vector>

#include "text/json_node.h"

namespace calque::text {

// A word before BPE. `at_start`: it begins where the whole text begins (Metaspace "first" asks).
struct Piece {
  std::string text;
  bool at_start = false;
};
using Pieces = std::vector<Piece>;

// Cuts (and rewrites) pieces further. Empty pieces vanish.
using PreTokenizer = std::function<void(Pieces&)>;

// From the "pre_tokenizer" of a tokenizer.json; null leaves the text whole. Split, Digits,
// ByteLevel, Metaspace, WhitespaceSplit and Sequence; others are refused by name.
PreTokenizer make_pre_tokenizer(const JsonNode& node);

// The components of `node` in order, Sequences opened: what the whole comes down to.
std::vector<JsonNode> flattened_pre_tokenizers(const JsonNode& node);

}  // namespace calque::text
