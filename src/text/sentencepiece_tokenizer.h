#pragma once

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "calque/text/tokenizer.h"
#include "text/added_tokens.h"
#include "text/sentencepiece_model.h"

namespace calque::text {

// Tokens that are cut out before SentencePiece sees the text: added_tokens.json, the
// added_tokens_decoder of tokenizer_config.json, and the special tokens that it names.
std::vector<AddedToken> read_side_tokens(const std::filesystem::path& folder,
                                         const SentencePieceModel& model);

// What happens around the model.
struct SentencePieceConventions {
  bool legacy = true;  // false: only the very start of a text gets a space in front
  bool add_prefix_space = true;
  TokenIds prefix;
  TokenIds suffix;
};
// `name` of the file, for the description.
std::unique_ptr<Tokenizer> make_sentencepiece_tokenizer(const SentencePieceModel& model,
                                                        std::vector<AddedToken> added,
                                                        SentencePieceConventions conventions,
                                                        const std::string& name);

// The tokenizer.model of `folder`, with what its tokenizer_config.json says.
std::unique_ptr<Tokenizer> load_sentencepiece_tokenizer(const std::filesystem::path& folder);

}  // namespace calque::text
