#pragma once

#include <filesystem>
#include <string>

#include "calque/core/units.h"

namespace calque::cli {

// Fit for pasting into a shell.
std::string shell_quoted(const std::filesystem::path& path);
// Text from a file without what would steer a terminal.
std::string printable(std::string text);

}  // namespace calque::cli
