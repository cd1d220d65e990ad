#include "cli/units.h"

#include <algorithm>
#include <cctype>
#include <string_view>

namespace calque::cli {

std::string shell_quoted(const std::filesystem::path& path) {
  const std::string text = path.string();
  const auto safe = [](unsigned char c) {
    return std::isalnum(c) != 0 ||
           std::string_view("/._-+=:,@").find(static_cast<char>(c)) != std::string_view::npos;
  };
  if (!text.empty() && std::all_of(text.begin(), text.end(), safe)) return text;
  std::string quoted = "'";
  for (const char c : text) {
    if (c == '\'')
      quoted += "'\\''";
    else
      quoted += c;
  }
  return quoted + "'";
}

std::string printable(std::string text) {
  for (char& c : text)
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7F) c = '?';
  return text;
}

}  // namespace calque::cli
