#pragma once

#include <filesystem>
#include <string>

#include "cli/units.h"
#include "support/temp_folder.h"

namespace calque::cli {

// Paths of the built program, and of the library that is preloaded to make disks fail.
std::string program();
std::string failing_disk();

struct Outcome {
  int exit_code = -1;
  std::string out;
  std::string err;
};

// Runs the built program as a user would; `arguments` is shell text. `before`: shell text such as
// "ulimit -v 1000000;".
Outcome run(const std::string& arguments, const std::string& before = "");

std::string contents_of(const std::filesystem::path& path);
void write(const std::filesystem::path& path, const std::string& text);

}  // namespace calque::cli
