#pragma once

#include <string>

#include "text/json_node.h"

namespace calque::text {

// The tokenizer.ggml.pre of a byte-level tokenizer.json, from the content of its pre-tokenizer:
// llama-bpe, qwen2, tekken, smollm or gpt-2. Error(kInput, "E211") if it is none of them.
std::string pre_name(const JsonNode& root);

}  // namespace calque::text
