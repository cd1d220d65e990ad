#pragma once

#include <cstdint>
#include <filesystem>
#include <string>

namespace calque::cli {

// "812 B", "3.4 KiB", "5.23 GiB": three digits that count.
std::string bytes_text(std::uint64_t bytes);
// "0.4 s", "59 s", "4m05s", "2h03m".
std::string duration_text(double seconds);
// Fit for pasting into a shell.
std::string shell_quoted(const std::filesystem::path& path);
// Text from a file without what would steer a terminal.
std::string printable(std::string text);

}  // namespace calque::cli
