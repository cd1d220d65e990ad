#pragma once

#include <string>
#include <string_view>

namespace calque::text {

// tokenizer.json patterns are written for Oniguruma (Ruby syntax); the engine here is PCRE2.
// Returns the same pattern in PCRE2's dialect. Where both engines would accept a construct and read
// it differently, it is translated (\s, \uXXXX, \p{Han}) or refused: Error(kInput) with the
// construct and its byte offset, for the caller to say where the pattern stands.
std::string to_pcre2(std::string_view pattern);

}  // namespace calque::text
