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

}  // namespace calque::text
