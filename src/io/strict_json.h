#pragma once

#include <nlohmann/json.hpp>
#include <string_view>

namespace calque::io {

// JSON as nlohmann::json parses it, but a name given twice in one object and nesting beyond 64
// levels are refused too: parsers disagree on which of two values wins, and deep nesting is an
// attack. Throws Error(kInput) with line and column of what it met.
nlohmann::json parse_strict_json(std::string_view text);

}  // namespace calque::io
