#pragma once

#include <functional>
#include <string>

#include "text/json_node.h"

namespace calque::text {

// Text to text, before anything is split. Takes and returns valid UTF-8.
using Normalizer = std::function<std::string(std::string)>;

// From the "normalizer" of a tokenizer.json; null gives the identity. NFC, NFD, NFKC, NFKD,
// Lowercase, Prepend, Replace and Sequence; others are refused by name.
Normalizer make_normalizer(const JsonNode& node);

}  // namespace calque::text
