#include "calque/job/builtin_texts.h"

#include <fmt/format.h>

#include <algorithm>

#include "calque/core/error.h"

namespace calque::job {
namespace {

namespace fs = std::filesystem;

constexpr const char* kMarker = "heldout_pride_and_prejudice.txt";  // in every folder of the texts

fs::path program_folder() {
  std::error_code ignored;
  return fs::read_symlink("/proc/self/exe", ignored).parent_path();
}

std::vector<fs::path> candidates() {
  const fs::path program = program_folder();
  std::vector<fs::path> folders = {program.parent_path() / "share" / "calque" / "calibration"};
  for (fs::path folder = program; folder.has_relative_path(); folder = folder.parent_path())
    folders.push_back(folder / "calibration_data");
  return folders;
}

// An empty path: there is none.
fs::path find_folder() {
  for (const fs::path& folder : candidates())
    if (fs::exists(folder / kMarker)) return folder;
  return {};
}

}  // namespace

fs::path builtin_folder() {
  static const fs::path folder = find_folder();
  if (!folder.empty()) return folder;
  throw Error(ErrorKind::kInput, "E218",
              fmt::format("calque's own calibration texts are not installed: {} is not there. Give "
                          "text files instead of the word {}",
                          candidates().front().string(), kBuiltin));
}

std::vector<text::TextSource> builtin_sources() {
  std::vector<text::TextSource> sources;
  for (const auto& entry : fs::directory_iterator(builtin_folder())) {
    const fs::path& path = entry.path();
    if (path.extension() != ".txt" || path.filename().string().starts_with("heldout")) continue;
    text::TextSource source;
    source.path = path;
    source.split_on = "\n\n\n";
    sources.push_back(source);
  }
  std::sort(sources.begin(), sources.end(),
            [](const auto& a, const auto& b) { return a.path < b.path; });
  return sources;
}

fs::path builtin_heldout_text() { return builtin_folder() / kMarker; }

std::string name_of_source(const text::TextSource& source) {
  const std::string file = source.path.filename().string();
  static const fs::path builtin = find_folder();
  const bool own = !builtin.empty() && source.path.parent_path() == builtin;
  return own ? fmt::format("{}/{}", kBuiltin, file) : file;
}

}  // namespace calque::job
