#pragma once

#include <span>
#include <string_view>

namespace calque {

// One code that messages carry ("error[E305]: ..."), for `calque explain`.
struct ErrorEntry {
  std::string_view code;     // "E305"
  int exit_code;             // a command that ends with it has this (kExitCodes)
  std::string_view title;    // a line: what is wrong
  std::string_view meaning;  // the reason it matters, the message's values; may be empty
  std::string_view remedy;   // the smallest change that mends it, then others
};

// Every code that calque uses, in ascending order. scripts/check_error_codes.py compares it with
// the sources.
std::span<const ErrorEntry> error_table();

// Null: there is no such code.
const ErrorEntry* find_error(std::string_view code);

}  // namespace calque
