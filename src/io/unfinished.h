#pragma once

#include <filesystem>

namespace calque::io {

// Maintain the list that remove_unfinished() works on. `path` is a partial file or folder.
void note_unfinished(const std::filesystem::path& path);
void forget_unfinished(const std::filesystem::path& path);

}  // namespace calque::io
