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

// Reads the "post_processor" of a tokenizer.json; null gives no ids. Supports TemplateProcessing,
// ByteLevel (which only changes offsets) and Sequence; refuses others by name.
Surroundings read_post_processor(const JsonNode& node);

// Reads the "added_tokens" of a tokenizer.json. Throws if an id contradicts the model's vocabulary
// or is used twice.
std::vector<AddedToken> read_added_tokens(const JsonNode& root, const Bpe& model);

// The tokenizer described by a tokenizer.json; `name` is the file's, for messages.
std::unique_ptr<Tokenizer> make_json_tokenizer(const io::Json& document, const std::string& name);
std::unique_ptr<Tokenizer> load_json_tokenizer(const std::filesystem::path& file);

}  // namespace calque::text
