#pragma once

#include <fmt/format.h>

#include <filesystem>
#include <string>

#include "calque/core/error.h"

namespace calque::job {

// Throws Error(kConfig): settings that do not agree.
[[noreturn]] inline void refuse(const char* code, const std::string& message) {
  throw Error(ErrorKind::kConfig, code, message);
}

// Throws Error(kInput, "E202") where the file that `key` names is missing.
inline void check_exists(const std::filesystem::path& file, const char* key) {
  if (std::filesystem::exists(file)) return;
  throw Error(ErrorKind::kInput, "E202",
              fmt::format("{}: '{}' does not exist (paths are relative to the job file)", key,
                          file.string()));
}

}  // namespace calque::job
