#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <string_view>

namespace calque {

// Fewest insertions, deletions, replacements and swaps of neighbours that turn `a` into `b`.
std::size_t edit_distance(std::string_view a, std::string_view b);

// The name the fewest edits away from `name`, upper and lower case being the same; the first of
// equals; empty if there are none.
std::string nearest_name(std::string_view name, std::span<const std::string_view> names);

// 'text' for a message: names from a file may be a gigabyte long or hold control bytes, so at most
// the first 80 bytes, everything outside printable ASCII as \xNN.
std::string quote_name(std::string_view text);

}  // namespace calque
