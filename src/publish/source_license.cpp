#include <algorithm>
#include <cctype>
#include <sstream>

#include "calque/io/file.h"
#include "publish/model_card.h"

namespace calque::publish {
namespace {

namespace fs = std::filesystem;

// Licence identifiers are made of these; anything else in the place of one is left out.
bool is_identifier(const std::string& text) {
  return !text.empty() && text.size() <= 64 &&
         std::all_of(text.begin(), text.end(), [](unsigned char c) {
           return std::isalnum(c) != 0 || c == '-' || c == '.' || c == '_';
         });
}

std::string unquoted(std::string text) {
  const auto drop = [](char c) {
    return c == ' ' || c == '\t' || c == '\r' || c == '"' || c == '\'';
  };
  while (!text.empty() && drop(text.back())) text.pop_back();
  while (!text.empty() && drop(text.front())) text.erase(0, 1);
  return text;
}

// "license:" between the two lines of dashes that a card begins with.
std::string license_in_front_matter(const std::string& card) {
  constexpr std::string_view kKey = "license:";
  std::istringstream lines(card);
  std::string line;
  if (!std::getline(lines, line) || !line.starts_with("---")) return "";
  while (std::getline(lines, line) && !line.starts_with("---"))
    if (line.starts_with(kKey)) return unquoted(line.substr(kKey.size()));
  return "";
}

}  // namespace

SourceLicense license_of(const fs::path& model_folder) {
  SourceLicense license;
  if (fs::is_regular_file(model_folder / "README.md"))
    license.id = license_in_front_matter(io::read_file(model_folder / "README.md"));
  if (!is_identifier(license.id)) license.id.clear();
  for (const char* name : {"LICENSE", "LICENSE.txt", "LICENSE.md", "COPYING"})
    if (license.file.empty() && fs::is_regular_file(model_folder / name)) license.file = name;
  return license;
}

}  // namespace calque::publish
