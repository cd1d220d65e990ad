#pragma once

#include <filesystem>
#include <string>

namespace calque::config {

// The text of a job or sweep file (`kind`: "job", for messages). Error(kConfig, "E111") for a
// folder, an unreadable file, or one that is larger than 1 MiB.
std::string read_yaml_file(const std::filesystem::path& file, const char* kind);

}  // namespace calque::config
