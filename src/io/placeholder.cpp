#include <fmt/format.h>

#include <array>
#include <fstream>
#include <string_view>
#include <system_error>

#include "calque/core/error.h"
#include "calque/io/file.h"

namespace calque::io {

void refuse_placeholder(const std::filesystem::path& file) {
  namespace fs = std::filesystem;
  std::error_code none;
  if (fs::is_symlink(fs::symlink_status(file, none)) && !fs::exists(file, none))
    throw Error(ErrorKind::kInput, "E173",
                fmt::format("{}: a link to {}, which is not there; is the download complete?",
                            file.string(), fs::read_symlink(file, none).string()));
  constexpr std::string_view kPointer = "version https://git-lfs.github.com/spec/";
  std::array<char, kPointer.size()> begin{};
  std::ifstream(file, std::ios::binary).read(begin.data(), begin.size());
  if (std::string_view(begin.data(), begin.size()) == kPointer)
    throw Error(ErrorKind::kInput, "E173",
                fmt::format("{}: a git-lfs pointer in place of the file; run 'git lfs pull' in its "
                            "folder, or download the file",
                            file.string()));
}

}  // namespace calque::io
