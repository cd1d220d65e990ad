#include "calque/job/builtin_texts.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

#include "calque/core/error.h"

namespace calque::job {
namespace {

namespace fs = std::filesystem;

constexpr const char* kMarker = "heldout_pride_and_prejudice.txt";  // in every folder of the texts

// Texts of one kind stand together. calibration_data/README.md says where they are from.
struct BuiltinText {
  const char* kind;
  const char* file;
  double share;  // its part of the rows that `builtin` gives
};
constexpr BuiltinText kTexts[] = {
    {"prose", "prose.txt", 0.15},
    {"speeches", "speeches.txt", 0.05},
    {"technical", "technical.txt.zst", 0.10},
    {"code", "code.txt", 0.03},
    {"code", "programs.txt.zst", 0.22},
    {"mathematics", "mathematics.txt.zst", 0.10},
    {"dialogues", "dialogues.jsonl", 0.10},
    {"languages", "languages.txt.zst", 0.15},
    {"languages", "everyday.txt", 0.10},
};

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

text::TextSource source_of(const BuiltinText& text, double part) {
  text::TextSource source;
  source.path = builtin_folder() / text.file;
  if (!fs::exists(source.path))
    throw Error(ErrorKind::kInput, "E218",
                fmt::format("calque's own calibration texts are not all installed: {} is not "
                            "there. Install calque again, or give text files instead of the word "
                            "{}",
                            source.path.string(), kBuiltin));
  source.split_on = "\n\n\n";
  source.chat.plain = true;
  source.may_run_out = true;
  source.part = part;
  return source;
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

std::vector<std::string> builtin_kinds() {
  std::vector<std::string> kinds;
  for (const BuiltinText& text : kTexts)
    if (kinds.empty() || kinds.back() != text.kind) kinds.emplace_back(text.kind);
  return kinds;
}

bool is_builtin(std::string_view word) {
  return word == kBuiltin || word.starts_with(fmt::format("{}:", kBuiltin));
}

std::vector<text::TextSource> builtin_sources(std::string_view word) {
  const std::string_view kind = word == kBuiltin ? "" : word.substr(word.find(':') + 1);
  const auto meant = [&](const BuiltinText& text) { return word == kBuiltin || kind == text.kind; };
  double sum = 0;
  for (const BuiltinText& text : kTexts) sum += meant(text) ? text.share : 0;
  if (sum == 0)
    throw Error(ErrorKind::kConfig, "E107",
                fmt::format("{} has no texts of the kind '{}'; its kinds: {}", kBuiltin, kind,
                            fmt::join(builtin_kinds(), ", ")));
  std::vector<text::TextSource> sources;
  for (const BuiltinText& text : kTexts)
    if (meant(text)) sources.push_back(source_of(text, text.share / sum));
  return sources;
}

fs::path builtin_heldout_text() { return builtin_folder() / kMarker; }

std::vector<TaskSettings> builtin_tasks() {
  const fs::path folder = builtin_folder() / "tasks";
  TaskSettings arithmetic;
  arithmetic.name = "arithmetic";
  arithmetic.file = folder / "arithmetic.jsonl";
  arithmetic.max_new_tokens = 8;
  arithmetic.answer_pattern = R"(-?\d+)";
  TaskSettings reading;
  reading.name = "reading";
  reading.file = folder / "reading.jsonl";
  reading.metric = "acc";  // its choices are single words: their lengths say nothing
  return {reading, arithmetic};
}

std::string name_of_source(const text::TextSource& source) {
  const std::string file = source.path.filename().string();
  static const fs::path builtin = find_folder();
  const bool own = !builtin.empty() && source.path.parent_path() == builtin;
  return own ? fmt::format("{}/{}", kBuiltin, file) : file;
}

}  // namespace calque::job
