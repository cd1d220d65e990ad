#pragma once

#include <filesystem>
#include <functional>
#include <string>
#include <string_view>

namespace calque::io {

// Streams a text file, decompressing ".gz" and ".zst" by its suffix, and calls `line` with each
// line without its "\n". Error(kInput) for an unreadable or damaged file. `line` returns false to
// stop.
void for_each_line(const std::filesystem::path& path,
                   const std::function<bool(std::string_view)>& line);

// The whole (decompressed) file.
std::string read_text(const std::filesystem::path& path);

}  // namespace calque::io
