#pragma once

#include <span>
#include <string>
#include <string_view>

namespace calque::io {

// The name with the fewest insertions, deletions and replacements of characters away from `name`;
// the first of equals; empty if there are none.
std::string nearest_name(std::string_view name, std::span<const std::string_view> names);

}  // namespace calque::io
