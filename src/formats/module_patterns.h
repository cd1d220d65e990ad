#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "calque/model/family.h"
#include "calque/text/regex.h"

namespace calque::formats {

// Names of modules and the patterns that stand for several of them: read (rules of a job file,
// settings of a folder) and written (settings of a folder, messages).

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
  ModuleMatcher(const std::string& pattern, const std::string& regex, bool anchored);

  std::string pattern_;
  text::Regex regex_;
};

// The one of `names` that holds the text most like the literal characters of `pattern`.
std::string nearest_module(const std::string& pattern, const std::vector<std::string>& names);

// Regular expressions, as few as is easy, that match exactly `chosen` out of `all` module names,
// and the whole name: "model\.layers\.\d+\.mlp\.(gate_proj|up_proj)$". Numbers become \d+ where
// all modules of that kind are chosen, alternations otherwise.
std::vector<std::string> regexes_of(const std::vector<std::string>& chosen,
                                    const std::vector<std::string>& all);

// "model.layers.*.self_attn.{q,k,v}_proj": modules that differ in layer and role only, in one.
std::string module_pattern(const std::vector<const model::LinearSpec*>& linears);

}  // namespace calque::formats
