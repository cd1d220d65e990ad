#pragma once

#include <functional>
#include <string>

#include "text/json_node.h"

namespace calque::text {

// Changes a text before it is split. Takes and returns valid UTF-8.
using Normalizer = std::function<std::string(std::string)>;

// Reads the "normalizer" of a tokenizer.json; null gives the identity. Supports NFC, NFD, NFKC,
// NFKD, Lowercase, Prepend, Replace and Sequence; refuses others by name.
Normalizer make_normalizer(const JsonNode& node);

}  // namespace calque::text
