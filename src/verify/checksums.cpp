#include <fmt/format.h>

#include <algorithm>
#include <optional>
#include <set>
#include <sstream>
#include <string>
#include <vector>

#include "calque/core/error.h"
#include "calque/core/names.h"
#include "calque/io/file.h"
#include "calque/io/sha256.h"
#include "calque/verify/verify.h"
#include "verify/verify_parts.h"

namespace calque::verify {
namespace {

namespace fs = std::filesystem;

constexpr const char* kName = "SHA256SUMS";

// Relative paths with '/', in byte order.
std::vector<std::string> files_below(const fs::path& folder) {
  std::vector<std::string> files;
  std::error_code failure;
  for (const auto& entry : fs::recursive_directory_iterator(folder, failure))
    if (entry.is_regular_file(failure))
      files.push_back(entry.path().lexically_relative(folder).generic_string());
  if (failure)
    throw Error(ErrorKind::kInput, "E202",
                folder.string() + ": cannot list the folder: " + failure.message());
  std::erase(files, kName);
  std::sort(files.begin(), files.end());
  return files;
}

// sha256sum(1) puts a backslash before a line whose name has escapes.
std::string line_of(const std::string& digest, const std::string& name) {
  std::string escaped;
  for (const char c : name) {
    if (c == '\\') escaped += "\\\\";
    if (c == '\n') escaped += "\\n";
    if (c != '\\' && c != '\n') escaped += c;
  }
  return fmt::format("{}{}  {}\n", escaped == name ? "" : "\\", digest, escaped);
}

std::string unescaped(const std::string& name) {
  std::string result;
  for (std::size_t i = 0; i < name.size(); ++i) {
    const bool escape = name[i] == '\\' && i + 1 < name.size();
    if (escape) ++i;
    result += escape && name[i] == 'n' ? '\n' : name[i];
  }
  return result;
}

struct Line {
  std::string digest;
  std::string name;
};

// nullopt: not a line of sha256sum.
std::optional<Line> parse(std::string text) {
  constexpr std::size_t kDigits = 64;
  const bool escaped = text.starts_with("\\");
  if (escaped) text.erase(0, 1);
  if (text.size() < kDigits + 3 || text[kDigits] != ' ') return std::nullopt;
  if (text[kDigits + 1] != ' ' && text[kDigits + 1] != '*') return std::nullopt;
  Line line{text.substr(0, kDigits), text.substr(kDigits + 2)};
  if (line.digest.find_first_not_of("0123456789abcdefABCDEF") != std::string::npos)
    return std::nullopt;
  for (char& c : line.digest)
    if (c >= 'A' && c <= 'F') c = static_cast<char>(c - 'A' + 'a');
  if (escaped) line.name = unescaped(line.name);
  return line;
}

// Refuses names that leave the folder.
bool stays_inside(const std::string& name) {
  const fs::path path = fs::path(name).lexically_normal();
  return !path.empty() && path.is_relative() && *path.begin() != "..";
}

bool holds(const fs::path& folder, const Line& line, Findings& findings) {
  const fs::path file = folder / line.name;
  std::error_code ignored;
  if (!stays_inside(line.name)) {
    findings.fault("checksums", fmt::format("SHA256SUMS lists {}, which is outside the folder",
                                            quote_name(line.name)));
    return false;
  }
  if (!fs::is_regular_file(file, ignored)) {
    findings.fault("checksums", fmt::format("{} is missing, but SHA256SUMS lists it. Download it "
                                            "again.",
                                            quote_name(line.name)));
    return false;
  }
  const std::string actual = io::sha256_hex_of_file(file);
  if (actual == line.digest) return true;
  findings.fault("checksums",
                 fmt::format("{} has SHA-256 {}, but SHA256SUMS says {}: the file has changed. "
                             "Download it again, or update the list if the change was intended.",
                             quote_name(line.name), actual, line.digest));
  return false;
}

void report_unlisted(const fs::path& folder, const std::set<std::string>& listed,
                     Findings& findings) {
  for (const std::string& name : files_below(folder))
    if (listed.count(name) == 0)
      findings.warning("checksums",
                       fmt::format("{} is not listed in SHA256SUMS", quote_name(name)));
}

}  // namespace

void check_checksums(const fs::path& folder, Findings& findings) {
  if (!fs::exists(folder / kName))
    return findings.warning("checksums",
                            "there is no SHA256SUMS, so the files cannot be compared with it");
  std::istringstream text(io::read_file(folder / kName));
  std::set<std::string> listed;
  std::size_t number = 0;
  std::size_t good = 0;
  for (std::string line; std::getline(text, line);) {
    ++number;
    const std::optional<Line> entry = parse(line);
    if (!entry) {
      findings.fault("checksums", fmt::format("SHA256SUMS, line {}: not 64 hex digits, two blanks "
                                              "and a file name",
                                              number));
      continue;
    }
    listed.insert(entry->name);
    if (holds(folder, *entry, findings)) ++good;
  }
  if (good == number) findings.ok("checksums", fmt::format("{} files match SHA256SUMS", good));
  report_unlisted(folder, listed, findings);
}

void write_checksums(const fs::path& folder) {
  std::string text;
  for (const std::string& name : files_below(folder))
    text += line_of(io::sha256_hex_of_file(folder / name), name);
  io::write_file(folder / kName, text);
}

}  // namespace calque::verify
