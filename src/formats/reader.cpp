#include "calque/formats/reader.h"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <cstring>
#include <fstream>

#include "calque/core/error.h"
#include "calque/core/paths.h"
#include "calque/formats/format.h"
#include "calque/io/gguf.h"
#include "formats/open.h"

namespace calque::formats {
namespace {

bool starts_with_gguf(const std::filesystem::path& file) {
  char magic[4] = {};
  std::ifstream(file, std::ios::binary).read(magic, sizeof(magic));
  return std::memcmp(magic, "GGUF", sizeof(magic)) == 0;
}

// "<stem>-00001-of-00003.gguf.partial"
bool is_partial_shard(const std::string& name, const std::string& stem) {
  const std::string pattern = "-#####-of-#####.gguf.partial";
  if (name.size() != stem.size() + pattern.size() || !name.starts_with(stem)) return false;
  return std::equal(pattern.begin(), pattern.end(),
                    name.end() - static_cast<std::ptrdiff_t>(pattern.size()), [](char p, char c) {
                      return p == '#' ? std::isdigit(static_cast<unsigned char>(c)) != 0 : p == c;
                    });
}

}  // namespace

double ArtifactReader::bits_per_weight() const {
  double bits = 0;
  double weights = 0;
  for (const StoredTensor& tensor : tensors()) {
    double elements = 1;
    for (const Index n : tensor.shape) elements *= static_cast<double>(n);
    weights += elements;
    bits += 8.0 * static_cast<double>(tensor.bytes);
  }
  return weights > 0 ? bits / weights : 0;
}

std::filesystem::path weights_path(const std::filesystem::path& path) {
  return io::gguf_entry_of(path);
}

std::vector<std::filesystem::path> files_at(const ExportRequest& request) {
  if (!format_of(request).is_folder) return io::gguf_files_of(request.path);
  std::vector<std::filesystem::path> there;
  if (std::filesystem::exists(request.path)) there.push_back(request.path);
  return there;
}

std::vector<std::filesystem::path> partial_files_at(const ExportRequest& request) {
  const std::filesystem::path path = without_end_slash(std::filesystem::absolute(request.path));
  std::vector<std::filesystem::path> there;
  std::error_code none;
  for (const auto& entry : std::filesystem::directory_iterator(path.parent_path(), none)) {
    const std::string name = entry.path().filename().string();
    if (name == path.filename().string() + ".partial" ||
        (!format_of(request).is_folder && is_partial_shard(name, path.stem().string())))
      there.push_back(entry.path());
  }
  return there;
}

std::unique_ptr<ArtifactReader> open_artifact(const std::filesystem::path& given) {
  const std::filesystem::path path = weights_path(given);
  if (std::filesystem::is_directory(path)) return open_folder(path);
  if (!std::filesystem::exists(path))
    throw Error(ErrorKind::kInput, "E202",
                fmt::format("{}: no such file or folder", path.string()));
  if (starts_with_gguf(path)) return open_gguf(path);
  const bool safetensors = path.extension() == ".safetensors" || path.filename() == "config.json";
  throw Error(ErrorKind::kInput, "E170",
              fmt::format("{} is not a GGUF file (it does not begin with 'GGUF'){}", path.string(),
                          safetensors ? "; give its folder instead" : ""));
}

}  // namespace calque::formats
