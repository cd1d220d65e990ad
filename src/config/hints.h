#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace calque::config {

// The candidate that `name` most likely meant: few edits away (insert, delete, replace, swap
// neighbours), relative to its length. Ties go to the earlier candidate.
std::optional<std::string> nearest(std::string_view name,
                                   const std::vector<std::string>& candidates);

// Translates another tool's key: "'w_bit' is AutoAWQ's name. Write 'bits: 4' in quantization."
// `value` as the user wrote it, "" if it is not a scalar. Empty for unknown names. Nothing is ever
// mapped silently: defaults and meanings differ between tools.
std::string foreign_key_hint(std::string_view key, const std::string& value);

// The replacement of a key that no longer exists: "'clip' is no longer a key. Write ...". `path` is
// "quantization.awq.clip". Empty for other keys.
std::string retired_key_hint(std::string_view path, const std::string& value);

}  // namespace calque::config
