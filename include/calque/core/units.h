#pragma once

#include <cstdint>
#include <string>

namespace calque {

constexpr double kGiB = 1024.0 * 1024.0 * 1024.0;  // bytes

// "812 B", "3.4 KiB", "5.23 GiB": three digits that count.
std::string bytes_text(std::uint64_t bytes);
// The same in powers of ten, as file sizes are given: "812 B", "3.40 kB", "5.73 GB".
std::string decimal_bytes_text(std::uint64_t bytes);
// "5,732,000,256"
std::string with_commas(std::uint64_t number);
// "0.4 s", "59 s", "4m05s", "2h03m".
std::string duration_text(double seconds);

}  // namespace calque
