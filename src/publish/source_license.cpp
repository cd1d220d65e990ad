#include <fmt/format.h>
#include <fmt/ranges.h>
#include <yaml-cpp/yaml.h>

#include <algorithm>

#include "calque/io/file.h"
#include "calque/publish/publish.h"

namespace calque::publish {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t kLongestText = 256;

// The YAML between the two lines of dashes at the start of a card; "" if there is none.
std::string front_matter_of(const std::string& card) {
  std::string_view rest = card;
  if (rest.starts_with("\xEF\xBB\xBF")) rest.remove_prefix(3);  // byte order mark
  const auto next_line = [&rest] {
    const std::size_t end = std::min(rest.find('\n'), rest.size());
    std::string_view line = rest.substr(0, end);
    rest.remove_prefix(std::min(end + 1, rest.size()));
    while (line.ends_with('\r') || line.ends_with(' ')) line.remove_suffix(1);
    return line;
  };
  if (next_line() != "---") return "";
  std::string yaml;
  while (!rest.empty()) {
    const std::string_view line = next_line();
    if (line == "---") return yaml;
    yaml += std::string(line) + "\n";
  }
  return "";
}

// A scalar that fits one line; "" for anything else.
std::string line_of(const YAML::Node& node) {
  if (!node.IsDefined() || !node.IsScalar()) return "";
  const std::string& text = node.Scalar();
  const bool one_line =
      std::none_of(text.begin(), text.end(), [](unsigned char c) { return c < 0x20 || c == 0x7F; });
  return one_line && text.size() <= kLongestText ? text : "";
}

void read_front_matter(const YAML::Node& card, SourceLicense& license) {
  if (!card.IsMap()) return;
  const YAML::Node stated = card["license"];
  if (const std::string id = line_of(stated); !id.empty()) license.ids.push_back(id);
  if (stated.IsDefined() && stated.IsSequence())
    for (const YAML::Node& entry : stated)
      if (const std::string id = line_of(entry); !id.empty()) license.ids.push_back(id);
  license.name = line_of(card["license_name"]);
  license.link = line_of(card["license_link"]);
}

}  // namespace

std::string SourceLicense::text() const { return fmt::format("{}", fmt::join(ids, ", ")); }

SourceLicense license_of(const fs::path& model_folder) {
  SourceLicense license;
  if (fs::is_regular_file(model_folder / "README.md")) {
    try {
      read_front_matter(YAML::Load(front_matter_of(io::read_file(model_folder / "README.md"))),
                        license);
    } catch (const YAML::Exception&) {
      license = {};  // a card that is not YAML states nothing
    }
  }
  for (const char* name : {"LICENSE", "LICENSE.txt", "LICENSE.md", "COPYING"})
    if (license.file.empty() && fs::is_regular_file(model_folder / name)) license.file = name;
  return license;
}

}  // namespace calque::publish
