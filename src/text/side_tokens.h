#pragma once

#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "text/added_tokens.h"

namespace calque::text {

// tokenizer_config.json as transformers reads it: if it does not list added_tokens_decoder,
// special_tokens_map.json takes precedence. Adds a line to `remarks` for each special token that
// the two name differently.
io::Json tokenizer_settings(const std::filesystem::path& folder,
                            std::vector<std::string>* remarks = nullptr);

// The texts of the special tokens that the settings name: bos_token and the others of its kind,
// tokens of a model's own ("image_token"), additional_special_tokens and extra_special_tokens.
std::vector<std::string> named_special_tokens(const JsonNode& settings);

// Returns the id of a text in the tokenizer's model; nullopt if it has none.
using ModelTokenId = std::function<std::optional<std::int32_t>(const std::string&)>;

// The tokens that are cut out before the model sees the text, by id: those of added_tokens_decoder
// in tokenizer_config.json, of tokenizer.json, of added_tokens.json, and the special tokens that
// the settings name, if the model or one of these files knows them. Error(kInput) with both texts
// if two files give one id to different ones.
std::vector<AddedToken> side_tokens(const std::filesystem::path& folder,
                                    const ModelTokenId& id_in_model);

// `document`, a tokenizer.json of `folder`, with the added tokens that only the other files name.
io::Json with_side_tokens(io::Json document, const std::filesystem::path& folder);

// True for a vocabulary of tiktoken, lines of base64 and rank, which some models store under the
// name of SentencePiece's file.
bool is_tiktoken(const std::filesystem::path& file);

}  // namespace calque::text
