#pragma once

#include <filesystem>

#include "calque/text/vocabulary.h"

namespace calque::text {

// From tokenizer.model. Only BPE models: readers of GGUF's "llama" tokenizer merge by score, which
// a Unigram model does not mean.
Vocabulary sentencepiece_vocabulary(const std::filesystem::path& folder, std::int64_t vocab_size);

// From tokenizer.json: byte-level BPE, or BPE with byte fallback. `decide_pre`: find the name of
// the pre-tokenizer and refuse unknown ones.
Vocabulary json_vocabulary(const std::filesystem::path& folder, std::int64_t vocab_size,
                           bool decide_pre);

// From the keys tokenizer.* of a GGUF file, which are checked against each other. Error(kInput) for
// a file without a tokenizer; "E211" for a tokenizer.ggml.model other than "llama" and "gpt2".
Vocabulary gguf_vocabulary(const std::filesystem::path& file);

}  // namespace calque::text
