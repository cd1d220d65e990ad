#pragma once

#include <filesystem>
#include <memory>
#include <vector>

#include "calque/text/tokenizer.h"
#include "text/added_tokens.h"
#include "text/bpe.h"
#include "text/json_node.h"

namespace calque::text {

// The ids that a post-processor puts around one sequence.
struct Surroundings {
  TokenIds prefix;
  TokenIds suffix;
};

// From the "post_processor" of a tokenizer.json; null gives none. TemplateProcessing, ByteLevel
// (which only changes offsets) and Sequence; others are refused by name.
Surroundings read_post_processor(const JsonNode& node);

// The "added_tokens" of a tokenizer.json. An id that contradicts the model's vocabulary, or that
// two tokens share, is refused.
std::vector<AddedToken> read_added_tokens(const JsonNode& root, const Bpe& model);

// The tokenizer that a tokenizer.json describes; `name` of the file, for messages.
std::unique_ptr<Tokenizer> make_json_tokenizer(const io::Json& document, const std::string& name);
std::unique_ptr<Tokenizer> load_json_tokenizer(const std::filesystem::path& file);

}  // namespace calque::text
