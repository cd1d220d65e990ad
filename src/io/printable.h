#pragma once

#include <string>
#include <string_view>

namespace calque::io {

// 'text' for a message: names from a file may be a gigabyte long or hold control bytes, so at most
// the first 80 bytes, everything outside printable ASCII as \xNN.
std::string printable(std::string_view text);

}  // namespace calque::io
