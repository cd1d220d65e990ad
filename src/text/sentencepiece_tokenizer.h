#pragma once

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "calque/text/tokenizer.h"
#include "text/added_tokens.h"
#include "text/sentencepiece_model.h"

namespace calque::text {

// Tokens that are cut out before SentencePiece sees the text (text/side_tokens.h).
std::vector<AddedToken> read_side_tokens(const std::filesystem::path& folder,
                                         const SentencePieceModel& model);

// Options of the steps around the model.
struct SentencePieceConventions {
  bool legacy = true;  // false: only the very start of a text gets a space in front
  bool add_prefix_space = true;
  TokenIds prefix;
  TokenIds suffix;
};
// `name` is the file's, for the description.
std::unique_ptr<Tokenizer> make_sentencepiece_tokenizer(const SentencePieceModel& model,
                                                        std::vector<AddedToken> added,
                                                        SentencePieceConventions conventions,
                                                        const std::string& name);

// The tokenizer.model of `folder` with the options of its tokenizer_config.json.
std::unique_ptr<Tokenizer> load_sentencepiece_tokenizer(const std::filesystem::path& folder);

}  // namespace calque::text
