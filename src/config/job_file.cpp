#include "calque/config/job_file.h"

#include <fmt/format.h>

#include <fstream>
#include <sstream>

#include "calque/core/error.h"
#include "config/diagnostics.h"
#include "config/job_reader.h"
#include "config/overrides.h"
#include "config/yaml_tree.h"

namespace calque::config {
namespace {

constexpr std::uintmax_t kLargestFile = 1 << 20;

std::string read_job_file(const std::filesystem::path& file) {
  std::error_code error;
  if (std::filesystem::is_directory(file, error))
    throw Error(ErrorKind::kConfig, "E111",
                fmt::format("'{}' is a folder; give the job file", file.string()));
  std::ifstream stream(file, std::ios::binary);
  if (!stream)
    throw Error(ErrorKind::kConfig, "E111", fmt::format("cannot read '{}'", file.string()));
  std::string text(kLargestFile + 1, '\0');
  stream.read(text.data(), static_cast<std::streamsize>(text.size()));
  text.resize(static_cast<std::size_t>(stream.gcount()));
  if (text.size() > kLargestFile)
    throw Error(ErrorKind::kConfig, "E111",
                fmt::format("'{}' is larger than 1 MiB: not a job file", file.string()));
  return text;
}

}  // namespace

pipeline::Job load_job(const std::filesystem::path& file,
                       const std::vector<std::string>& overrides) {
  const std::string text = read_job_file(file);
  Diagnostics diagnostics(file.string(), text, overrides);
  YamlNode root = parse_yaml(text, 0, diagnostics);
  diagnostics.throw_if_any();  // what follows a syntax error would only confuse
  for (std::size_t i = 0; i < overrides.size(); ++i)
    apply_override(root, overrides[i], static_cast<int>(i + 1), diagnostics);
  JobReader reader(std::filesystem::absolute(file).lexically_normal().parent_path(), diagnostics);
  pipeline::Job job = reader.read(root);
  diagnostics.throw_if_any();
  return job;
}

}  // namespace calque::config
