#pragma once

#include <string>

#include "text/json_node.h"

namespace calque::text {

// The tokenizer.ggml.pre for a byte-level tokenizer.json, from the content of its pre-tokenizer:
// llama-bpe, qwen2, tekken, gpt-4o, smollm or gpt-2. Error(kInput, "E211") if it is none of them.
std::string pre_name(const JsonNode& root);

// The meaning of a tokenizer.ggml.pre name.
struct PreTokenizerFacts {
  io::Json pre_tokenizer;  // as in a tokenizer.json
  bool ignore_merges = false;
  bool composes = false;  // applies NFC first; GGUF has no key for that
  bool adds_bos = false;  // default if no key is present
};
// Error(kInput, "E211") for any other name; `file` is for its message.
PreTokenizerFacts pre_tokenizer_named(const std::string& name, const std::string& file);

}  // namespace calque::text
