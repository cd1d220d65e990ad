#pragma once

#include <filesystem>
#include <string>

namespace calque {

// `path` in normal form and without a slash at its end: "out/" means "out".
inline std::filesystem::path without_end_slash(const std::filesystem::path& path) {
  const std::filesystem::path normal = path.lexically_normal();
  return normal.has_filename() ? normal : normal.parent_path();
}

// The name that a folder or file has: "a" for "runs/a/", the present folder's for ".".
inline std::string last_name(const std::filesystem::path& path) {
  return without_end_slash(std::filesystem::absolute(path)).filename().string();
}

}  // namespace calque
