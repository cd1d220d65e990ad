#pragma once

#include <filesystem>
#include <memory>

#include "calque/text/tokenizer.h"
#include "calque/text/vocabulary.h"

namespace calque::text {

// True for a file, or for a file that exists only as shards; anything else counts as a folder.
bool is_gguf(const std::filesystem::path& model);

// True if the file names a tokenizer, even one that calque cannot read.
bool gguf_has_tokenizer(const std::filesystem::path& file);

// The tokenizer that a GGUF file describes.
std::unique_ptr<Tokenizer> load_gguf_tokenizer(const std::filesystem::path& file);

// Builders for the two kinds; `name` is the file's, for messages and descriptions.
std::unique_ptr<Tokenizer> byte_level_tokenizer(const Vocabulary& vocabulary,
                                                const std::string& name);
std::unique_ptr<Tokenizer> piece_tokenizer(const Vocabulary& vocabulary, const std::string& name);

}  // namespace calque::text
