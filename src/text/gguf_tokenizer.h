#pragma once

#include <filesystem>
#include <memory>
#include <string>

#include "calque/io/json.h"
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

// The same as files of a model folder. A tokenizer.json that transformers reads; Error(kInput,
// "E211") for a `pre` that is not known.
io::Json byte_level_json(const Vocabulary& vocabulary, const std::string& name);
// A SentencePiece model; E211 without exactly one unknown token.
std::string piece_model(const Vocabulary& vocabulary);

// True for a token that is cut out of the text before the model of pieces sees it.
bool is_added(const Vocabulary& vocabulary, std::size_t id);
// The number of tokens without those that only fill the embedding.
std::size_t without_padding(const Vocabulary& vocabulary);

}  // namespace calque::text
