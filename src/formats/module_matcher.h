#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace calque::formats {

// A ModuleRule's pattern (plan.h): an exact name, a glob, or "re:" and a regular expression that is
// anchored at the start.
class ModuleMatcher {
 public:
  // Error(kConfig, E152), with offset and reason, if the regular expression is none.
  explicit ModuleMatcher(const std::string& pattern);
  // `regex` anywhere in a name.
  static ModuleMatcher searching(const std::string& regex);

  // Error(kConfig, E152) if deciding takes more steps than any sensible pattern needs.
  bool matches(std::string_view module) const;

 private:
  struct Code;
  ModuleMatcher() = default;
  static std::shared_ptr<const Code> compiled(const std::string& pattern, const std::string& regex,
                                              bool anchored);

  std::string pattern_;
  std::shared_ptr<const Code> code_;
};

// The one of `names` that holds the text most like the literal characters of `pattern`.
std::string nearest_module(const std::string& pattern, const std::vector<std::string>& names);

}  // namespace calque::formats
