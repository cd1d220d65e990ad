#include "config/diagnostics.h"

#include <fmt/format.h>

#include <algorithm>
#include <sstream>
#include <tuple>
#include <utility>

#include "calque/core/error.h"

namespace calque::config {
namespace {

constexpr std::size_t kMostReported = 50;
constexpr std::size_t kMostColumns = 160;  // columns of a source line that are shown

std::vector<std::string> lines_of(const std::string& text) {
  std::vector<std::string> lines;
  std::istringstream stream(text);
  for (std::string line; std::getline(stream, line);) {
    if (!line.empty() && line.back() == '\r') line.pop_back();
    lines.push_back(line);
  }
  return lines;
}

// Replaces control characters, so that a file cannot control the terminal.
std::string printable(std::string line) {
  for (char& c : line)
    if (static_cast<unsigned char>(c) < 0x20 && c != '\t') c = '?';
  return line;
}

// Blanks as wide as `prefix`: tabs stay tabs, a UTF-8 character takes one column.
std::string blanks_under(const std::string& prefix) {
  std::string blanks;
  for (const char c : prefix) {
    const bool continuation = (static_cast<unsigned char>(c) & 0xC0) == 0x80;
    if (!continuation) blanks += c == '\t' ? '\t' : ' ';
  }
  return blanks;
}

}  // namespace

Diagnostics::Diagnostics(std::string file, std::string text, std::vector<std::string> overrides)
    : file_(std::move(file)), lines_(lines_of(text)), overrides_(std::move(overrides)) {}

void Diagnostics::add(const Mark& mark, Problem problem) {
  entries_.push_back({mark, std::move(problem)});
}

void Diagnostics::throw_if_any() const {
  if (entries_.empty()) return;
  std::vector<Entry> sorted = entries_;
  std::stable_sort(sorted.begin(), sorted.end(), [](const Entry& a, const Entry& b) {
    return std::tie(a.mark.source, a.mark.line, a.mark.column) <
           std::tie(b.mark.source, b.mark.line, b.mark.column);
  });
  std::vector<std::string> reports;
  for (std::size_t i = 0; i < std::min(sorted.size(), kMostReported); ++i)
    reports.push_back(describe(sorted[i]));
  std::string message = fmt::format("{}", fmt::join(reports, "\n"));
  if (sorted.size() > kMostReported)
    message += fmt::format("\nand {} more", sorted.size() - kMostReported);
  throw Error(ErrorKind::kConfig, sorted.front().problem.code, message);
}

std::string Diagnostics::describe(const Entry& entry) const {
  const auto& [mark, problem] = entry;
  if (mark.source > 0)
    return fmt::format("--set {}: error[{}]: {}",
                       printable(overrides_[static_cast<std::size_t>(mark.source - 1)]),
                       problem.code, problem.message);
  const std::string head = fmt::format("{}:{}:{}: error[{}]: {}", file_, mark.line + 1,
                                       mark.column + 1, problem.code, problem.message);
  const auto line = static_cast<std::size_t>(mark.line);
  const auto column = static_cast<std::size_t>(mark.column);
  if (line >= lines_.size() || column > std::min(lines_[line].size(), kMostColumns)) return head;
  return fmt::format("{}\n    {}\n    {}^", head, printable(lines_[line].substr(0, kMostColumns)),
                     blanks_under(lines_[line].substr(0, column)));
}

}  // namespace calque::config
