#pragma once

#include <filesystem>
#include <memory>

#include "calque/text/tokenizer.h"
#include "calque/text/vocabulary.h"

namespace calque::text {

// A file, or one that is only there in shards; anything else is taken for a folder.
bool is_gguf(const std::filesystem::path& model);

// Whether the file names a tokenizer, one that calque reads or not.
bool gguf_has_tokenizer(const std::filesystem::path& file);

// The tokenizer that a GGUF file describes.
std::unique_ptr<Tokenizer> load_gguf_tokenizer(const std::filesystem::path& file);

// The two kinds; `name` of the file, for messages and descriptions.
std::unique_ptr<Tokenizer> byte_level_tokenizer(const Vocabulary& vocabulary,
                                                const std::string& name);
std::unique_ptr<Tokenizer> piece_tokenizer(const Vocabulary& vocabulary, const std::string& name);

}  // namespace calque::text
