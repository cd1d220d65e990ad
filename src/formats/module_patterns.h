#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "calque/model/family.h"
#include "calque/text/regex.h"

namespace calque::formats {

// Patterns that stand for several module names: read from job files and folder settings, written
// into folder settings and messages.

// A ModuleRule's pattern (plan.h): an exact name, a glob, or "re:" and a regular expression that is
// anchored at the start.
class ModuleMatcher {
 public:
  // Error(kConfig, E152), with offset and reason, if the regular expression is invalid.
  explicit ModuleMatcher(const std::string& pattern);
  // Matches if `regex` is found anywhere in a name.
  static ModuleMatcher searching(const std::string& regex);

  // Error(kConfig, E152) if matching takes more steps than any sensible pattern needs.
  bool matches(std::string_view module) const;

 private:
  ModuleMatcher(const std::string& pattern, const std::string& regex, bool anchored);

  std::string pattern_;
  text::Regex regex_;
};

// The name in `names` with a part most similar to the literal characters of `pattern`.
std::string nearest_module(const std::string& pattern, const std::vector<std::string>& names);

// A small set of regular expressions that match exactly `chosen` out of `all` module names, each
// the whole name: "model\.layers\.\d+\.mlp\.(gate_proj|up_proj)$". Numbers become \d+ if all
// modules of that kind are chosen, alternations otherwise.
std::vector<std::string> regexes_of(const std::vector<std::string>& chosen,
                                    const std::vector<std::string>& all);

// One pattern for modules that differ only in layer and role:
// "model.layers.*.self_attn.{q,k,v}_proj".
std::string module_pattern(const std::vector<const model::LinearSpec*>& linears);

}  // namespace calque::formats
