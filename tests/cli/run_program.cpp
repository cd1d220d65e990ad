#include "cli/run_program.h"

#include <sys/wait.h>

#include <cstdlib>
#include <fstream>
#include <iterator>

namespace calque::cli {

std::string program() { return CALQUE_PROGRAM; }
std::string failing_disk() { return CALQUE_FAILING_DISK; }

std::string contents_of(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

Outcome run(const std::string& arguments, const std::string& before) {
  const testing::TempFolder folder;
  const std::string command = before + shell_quoted(program()) + " " + arguments + " >" +
                              shell_quoted(folder / "out") + " 2>" + shell_quoted(folder / "err") +
                              " </dev/null";
  const int status = std::system(command.c_str());
  return {WIFEXITED(status) ? WEXITSTATUS(status) : -1, contents_of(folder / "out"),
          contents_of(folder / "err")};
}

void write(const std::filesystem::path& path, const std::string& text) {
  std::ofstream(path, std::ios::binary) << text;
}

}  // namespace calque::cli
