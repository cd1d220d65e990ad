#include "io/strict_json.h"

#include <fmt/format.h>

#include <set>
#include <string>
#include <vector>

#include "calque/core/error.h"
#include "calque/core/names.h"

namespace calque::io {
namespace {

using Event = nlohmann::json::parse_event_t;

[[noreturn]] void refuse(const std::string& reason) { throw Error(ErrorKind::kInput, "", reason); }

// nlohmann::json keeps the last of two equal names silently; the parser callback sees both.
class Guard {
 public:
  bool operator()(int depth, Event event, const nlohmann::json& parsed) {
    const auto level = static_cast<std::size_t>(depth);
    const bool opens = event == Event::object_start || event == Event::array_start;
    if (opens && level >= kMaxDepth) refuse(fmt::format("JSON nested deeper than {}", kMaxDepth));
    if (event == Event::object_start) names_.resize(level + 1);
    if (event == Event::object_start) names_.emplace_back();
    if (event == Event::key) check_new(parsed.get_ref<const std::string&>(), level);
    return true;
  }

 private:
  static constexpr std::size_t kMaxDepth = 64;

  void check_new(const std::string& name, std::size_t level) {
    if (!names_[level].insert(name).second)
      refuse(fmt::format("the JSON name {} is given twice", quote_name(name)));
  }
  std::vector<std::set<std::string>> names_;  // by depth, of the object open there
};

}  // namespace

nlohmann::json parse_strict_json(std::string_view text) {
  try {
    Guard guard;
    return nlohmann::json::parse(text, [&guard](int depth, Event event, nlohmann::json& parsed) {
      return guard(depth, event, parsed);
    });
  } catch (const nlohmann::json::exception& error) {
    refuse(fmt::format("invalid JSON: {}", error.what()));
  }
}

}  // namespace calque::io
