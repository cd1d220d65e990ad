#pragma once

#include <filesystem>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "calque/text/vocabulary.h"
#include "text/json_node.h"

namespace calque::text {

// True for texts that GGUF converters treat as control tokens whatever their flags: "<|...|>",
// "<unused...>", "<pad>" and the like.
bool looks_special(std::string_view token);

// Control or user-defined.
Vocabulary::TokenType added_type(bool special, std::string_view token);

// User-defined tokens are matched in plain text, so each U+2581 becomes a space.
std::string user_defined_text(std::string_view token);

// "<0x0A>"
bool is_byte_token(std::string_view token);

// Appends unused tokens "[PADi]" (i: the id) until there are `vocab_size` tokens; with `scored`,
// also scores. Error(kInput) if there are more already.
void pad_vocabulary(Vocabulary& vocabulary, std::int64_t vocab_size, bool scored);
std::string pad_token(std::size_t id);

constexpr float kAddedScore = -1000.0f;
constexpr float kPadScore = -10000.0f;

// Gives each piece the negated rank of the merge that makes it: readers of scores join the
// neighbours whose union has the highest, which is the order of the merges. Pieces that no merge
// makes come last. `merged_ids` has the piece of each merge by rank; -1: none.
void score_by_rank(const std::vector<std::int32_t>& merged_ids, Vocabulary& vocabulary);

// Looks up a token's id by its text; nullopt if it is not one.
using AddedTokenId = std::function<std::optional<std::int32_t>(const std::string&)>;

// Fills special_ids, add_bos, add_eos, add_space_prefix and the chat templates from the files next
// to the tokenizer: the tokenizer's settings first (text/side_tokens.h), then config.json, then
// generation_config.json. Ids outside the vocabulary are left out. Differences are remarked.
void read_special_ids(const std::filesystem::path& folder, const AddedTokenId& id_of,
                      std::int64_t vocab_size, Vocabulary& vocabulary);

// The chat templates of a folder by name, the usual one being "default". As AutoTokenizer: a file
// takes the place of every template in `config`, its tokenizer_config.json; chat_template.json is
// older than both. Adds a line to `remarks` for each that is left out.
std::map<std::string, std::string> folder_chat_templates(const std::filesystem::path& folder,
                                                         const JsonNode& config,
                                                         std::vector<std::string>& remarks);

// True if `folder` has a SentencePiece tokenizer.model. Error(kInput) if its place is taken by
// something else and there is no tokenizer.json either.
bool has_pieces(const std::filesystem::path& folder);

// From tokenizer.model. BPE models only: readers of GGUF's "llama" tokenizer merge by score, which
// is not how a Unigram model works.
Vocabulary sentencepiece_vocabulary(const std::filesystem::path& folder, std::int64_t vocab_size);

// From tokenizer.json: byte-level BPE, or BPE with byte fallback. With `decide_pre`, finds the name
// of the pre-tokenizer and refuses unknown ones.
Vocabulary json_vocabulary(const std::filesystem::path& folder, std::int64_t vocab_size,
                           bool decide_pre);

// From the tokenizer.* keys of a GGUF file, which are checked against each other. Error(kInput) for
// a file without a tokenizer; "E211" for a tokenizer.ggml.model other than "llama", "gemma4" and
// "gpt2". Scores of a "gemma4" are made from its merges, since its own say nothing.
Vocabulary gguf_vocabulary(const std::filesystem::path& file);

}  // namespace calque::text
