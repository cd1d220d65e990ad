#pragma once

#include <sys/wait.h>

#include <cstdlib>
#include <fstream>
#include <iterator>
#include <string>

#include "cli/units.h"
#include "support/temp_folder.h"

namespace calque::cli {

struct Outcome {
  int exit_code = -1;
  std::string out;
  std::string err;
};

inline std::string contents_of(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

// Runs the built program as a user would; `arguments` is shell text. `before`: shell text such as
// "ulimit -v 1000000;".
inline Outcome run(const std::string& arguments, const std::string& before = "") {
  const testing::TempFolder folder;
  const std::string command = before + shell_quoted(CALQUE_PROGRAM) + " " + arguments + " >" +
                              shell_quoted(folder / "out") + " 2>" + shell_quoted(folder / "err") +
                              " </dev/null";
  const int status = std::system(command.c_str());
  return {WIFEXITED(status) ? WEXITSTATUS(status) : -1, contents_of(folder / "out"),
          contents_of(folder / "err")};
}

inline void write(const std::filesystem::path& path, const std::string& text) {
  std::ofstream(path, std::ios::binary) << text;
}

}  // namespace calque::cli
