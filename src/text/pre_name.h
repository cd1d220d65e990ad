#pragma once

#include <string>

#include "text/json_node.h"

namespace calque::text {

// The tokenizer.ggml.pre of a byte-level tokenizer.json, from the content of its pre-tokenizer:
// llama-bpe, qwen2, tekken, smollm or gpt-2. Error(kInput, "E211") if it is none of them.
std::string pre_name(const JsonNode& root);

// What a name of tokenizer.ggml.pre stands for.
struct PreTokenizerFacts {
  io::Json pre_tokenizer;  // as in a tokenizer.json
  bool ignore_merges = false;
  bool composes = false;  // an NFC normalizer comes first; GGUF has no key of its own for it
  bool adds_bos = false;  // where no key says otherwise
};
// Error(kInput, "E211") for a name that is none of the above; `file` for its message.
PreTokenizerFacts pre_tokenizer_named(const std::string& name, const std::string& file);

}  // namespace calque::text
