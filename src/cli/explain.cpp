#include <fmt/format.h>

#include <cctype>
#include <memory>
#include <sstream>
#include <string>
#include <string_view>
#include <vector>

#include "calque/core/error.h"
#include "calque/core/error_table.h"
#include "cli/commands.h"
#include "cli/text_table.h"
#include "cli/units.h"

namespace calque::cli {
namespace {

constexpr std::size_t kLineWidth = 80;

// Wraps text into lines of at most kLineWidth, each indented by `indent` spaces.
std::string wrapped(std::string_view text, std::size_t indent) {
  std::istringstream words{std::string(text)};
  std::string result, line, word;
  while (words >> word) {
    if (!line.empty() && indent + line.size() + 1 + word.size() > kLineWidth) {
      result += std::string(indent, ' ') + line + "\n";
      line.clear();
    }
    line += (line.empty() ? "" : " ") + word;
  }
  return line.empty() ? result : result + std::string(indent, ' ') + line + "\n";
}

std::string page(const ErrorEntry& entry) {
  std::string text =
      fmt::format("{} (exit code {})\n{}", entry.code, entry.exit_code, wrapped(entry.title, 2));
  if (!entry.meaning.empty()) text += "\n" + wrapped(entry.meaning, 2);
  return text + "\nWhat to do\n" + wrapped(entry.remedy, 2);
}

std::string list() {
  TextTable table({{"code", TextTable::Align::kLeft},
                   {"exit", TextTable::Align::kRight},
                   {"what is wrong", TextTable::Align::kLeft}});
  for (const ErrorEntry& entry : error_table())
    table.add({std::string(entry.code), std::to_string(entry.exit_code), std::string(entry.title)});
  return table.text();
}

// Accepts "e305", "[E305]" and "305" as well.
std::string as_code(const std::string& given) {
  std::string digits;
  for (const char c : given)
    if (std::isdigit(static_cast<unsigned char>(c)) != 0) digits += c;
  return "E" + digits;
}

const ErrorEntry& entry_of(const std::string& given) {
  if (const ErrorEntry* entry = find_error(as_code(given))) return *entry;
  throw Error(
      ErrorKind::kConfig, "E001",
      fmt::format("there is no error code '{}'; 'calque explain' lists all", printable(given)));
}

void explain(const std::vector<std::string>& codes) {
  if (codes.empty()) return fmt::print("{}", list());
  std::string text;
  for (const std::string& code : codes) text += (text.empty() ? "" : "\n") + page(entry_of(code));
  fmt::print("{}", text);
}

std::vector<std::string> all_codes() {
  std::vector<std::string> codes;
  for (const ErrorEntry& entry : error_table()) codes.emplace_back(entry.code);
  return codes;
}

}  // namespace

Command explain_command(const CommandContext&) {
  const auto codes = std::make_shared<std::vector<std::string>>();
  return {"explain",
          "Explain an error code and its remedy; without a code, list all.",
          {Option{"CODE", codes.get(), "Error code such as E131, from 'error[E131]: ...'"}.such_as(
              all_codes())},
          "  calque explain E131",
          [codes] { explain(*codes); }};
}

}  // namespace calque::cli
