#pragma once

#include <cstdint>
#include <string>

namespace calque {

// "812 B", "3.4 KiB", "5.23 GiB": three digits that count.
std::string bytes_text(std::uint64_t bytes);
// "0.4 s", "59 s", "4m05s", "2h03m".
std::string duration_text(double seconds);

}  // namespace calque
