#pragma once

#include <filesystem>
#include <string>
#include <string_view>

namespace calque {

// Fit for pasting into a shell.
std::string shell_quoted(const std::filesystem::path& path);
// A YAML scalar in double quotes, on one line; bytes that are no UTF-8 stay as they are.
std::string yaml_quoted(std::string_view text);

}  // namespace calque
