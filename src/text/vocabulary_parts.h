#pragma once

#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <string_view>

#include "calque/text/vocabulary.h"

namespace calque::text {

// Texts that GGUF converters take for control tokens whatever their flags say: "<|...|>",
// "<unused...>", "<pad>" and the like.
bool looks_special(std::string_view token);

// Control or user-defined.
Vocabulary::TokenType added_type(bool special, std::string_view token);

// A user-defined token is matched against plain text, so its U+2581 become spaces.
std::string user_defined_text(std::string_view token);

// "<0x0A>"
bool is_byte_token(std::string_view token);

// Appends "[PADi]" (i: the id), unused, until there are `vocab_size` tokens; the scores, too, if
// `scored`. Error(kInput) if there are more already.
void pad_vocabulary(Vocabulary& vocabulary, std::int64_t vocab_size, bool scored);
std::string pad_token(std::size_t id);

constexpr float kAddedScore = -1000.0f;
constexpr float kPadScore = -10000.0f;

// Id of a token by its text among the added tokens; nothing if it is none of them.
using AddedTokenId = std::function<std::optional<std::int32_t>(const std::string&)>;

// Fills special_ids, add_bos, add_eos, add_space_prefix and chat_template from the JSON files
// beside the tokenizer: tokenizer_config.json first, then config.json, then generation_config.json.
// Ids outside the vocabulary are left out.
void read_special_ids(const std::filesystem::path& folder, const AddedTokenId& id_of,
                      std::int64_t vocab_size, Vocabulary& vocabulary);

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
