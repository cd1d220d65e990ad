#pragma once

#include <filesystem>
#include <functional>
#include <optional>
#include <string>

#include "calque/text/vocabulary.h"

namespace calque::text {

// Id of a token by its text among the added tokens; nothing if it is none of them.
using AddedTokenId = std::function<std::optional<std::int32_t>(const std::string&)>;

// Fills special_ids, add_bos, add_eos, add_space_prefix and chat_template from the JSON files
// beside the tokenizer: tokenizer_config.json first, then config.json, then generation_config.json.
// Ids outside the vocabulary are left out.
void read_special_ids(const std::filesystem::path& folder, const AddedTokenId& id_of,
                      std::int64_t vocab_size, Vocabulary& vocabulary);

}  // namespace calque::text
