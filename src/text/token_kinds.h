#pragma once

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

}  // namespace calque::text
