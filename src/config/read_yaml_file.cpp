#include "config/read_yaml_file.h"

#include <fmt/format.h>

#include <fstream>

#include "calque/core/error.h"

namespace calque::config {
namespace {

constexpr std::uintmax_t kLargestFile = 1 << 20;

}  // namespace

std::string read_yaml_file(const std::filesystem::path& file, const char* kind) {
  std::error_code error;
  if (std::filesystem::is_directory(file, error))
    throw Error(ErrorKind::kConfig, "E111",
                fmt::format("'{}' is a folder; give the {} file", file.string(), kind));
  std::ifstream stream(file, std::ios::binary);
  if (!stream)
    throw Error(ErrorKind::kConfig, "E111", fmt::format("cannot read '{}'", file.string()));
  std::string text(kLargestFile + 1, '\0');
  stream.read(text.data(), static_cast<std::streamsize>(text.size()));
  text.resize(static_cast<std::size_t>(stream.gcount()));
  if (text.size() > kLargestFile)
    throw Error(ErrorKind::kConfig, "E111",
                fmt::format("'{}' is larger than 1 MiB: not a {} file", file.string(), kind));
  return text;
}

}  // namespace calque::config
