#pragma once

#include <functional>
#include <string>
#include <vector>

#include "text/json_node.h"

namespace calque::text {

// A piece of text before BPE. `at_start`: it begins the whole text (needed for Metaspace "first").
struct Piece {
  std::string text;
  bool at_start = false;
};
using Pieces = std::vector<Piece>;

// Cuts (and rewrites) pieces further. Empty pieces vanish.
using PreTokenizer = std::function<void(Pieces&)>;

// Reads the "pre_tokenizer" of a tokenizer.json; null leaves the text whole. Supports Split,
// Digits, ByteLevel, Metaspace, WhitespaceSplit and Sequence; refuses others by name.
PreTokenizer make_pre_tokenizer(const JsonNode& node);

// The components of `node` in order, with Sequences expanded.
std::vector<JsonNode> flattened_pre_tokenizers(const JsonNode& node);

}  // namespace calque::text
