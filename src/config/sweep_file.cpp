#include "calque/config/sweep_file.h"

#include <fmt/format.h>

#include "config/codec.h"
#include "config/read_yaml_file.h"
#include "config/sweep_reader.h"

namespace calque::config {
namespace {

// "a.b: 4, c: [1, 2]" without the braces. Keys hold no characters that would need quotes.
std::string map_yaml(const Settings& settings) {
  std::string yaml;
  for (const Setting& s : settings)
    yaml += fmt::format("{}{}: {}", yaml.empty() ? "" : ", ", s.path, s.value);
  return "{" + yaml + "}";
}

std::string list_yaml(const std::vector<std::string>& values) {
  return fmt::format("[{}]", fmt::join(values, ", "));
}

std::string axes_yaml(const char* name, const std::vector<SweepAxis>& axes) {
  if (axes.empty()) return fmt::format("{}: null\n", name);
  std::string yaml = fmt::format("{}:\n", name);
  for (const SweepAxis& axis : axes)
    yaml += fmt::format("  {}: {}\n", axis.path, list_yaml(axis.values));
  return yaml;
}

std::string paired_yaml(const std::vector<Settings>& paired) {
  std::string yaml = paired.empty() ? "paired: null\n" : "paired:\n";
  for (const Settings& entry : paired) yaml += fmt::format("  - {}\n", map_yaml(entry));
  return yaml;
}

std::string exclude_yaml(const std::vector<Exclusion>& exclude) {
  std::string yaml = exclude.empty() ? "exclude: null\n" : "exclude:\n";
  for (const Exclusion& exclusion : exclude) {
    Settings lists;
    for (const SweepAxis& axis : exclusion) lists.push_back({axis.path, list_yaml(axis.values)});
    yaml += fmt::format("  - {}\n", map_yaml(lists));
  }
  return yaml;
}

std::string share_yaml(const Sharing& share) {
  if (!share.asked) return "share: null\n";
  std::vector<std::string> names;
  if (share.tokens) names.push_back("tokens");
  if (share.reference) names.push_back("reference");
  if (share.statistics) names.push_back("statistics");
  return fmt::format("share: {}\n", list_yaml(names));
}

const char* name_of(KeepArtifacts keep) {
  return keep == KeepArtifacts::kAll ? "all" : keep == KeepArtifacts::kPareto ? "pareto" : "none";
}

}  // namespace

std::vector<std::string> SweepFile::swept() const {
  std::vector<std::string> paths;
  for (const SweepAxis& axis : grid) paths.push_back(axis.path);
  if (!paired.empty())
    for (const Setting& setting : paired.front()) paths.push_back(setting.path);
  return paths;
}

SweepFile load_sweep(const std::filesystem::path& file) {
  const std::string text = read_yaml_file(file, "sweep");
  Diagnostics diagnostics(file.string(), text, {});
  const YamlNode root = parse_yaml(text, 0, diagnostics);
  diagnostics.throw_if_any();  // what follows a syntax error would only confuse
  SweepReader reader(std::filesystem::absolute(file).lexically_normal(), diagnostics);
  SweepFile sweep = reader.read(root);
  diagnostics.throw_if_any();
  return sweep;
}

std::string resolved_yaml(const SweepFile& sweep) {
  std::string yaml = fmt::format("version: 1\nname: {}\nbase: {}\n", quoted_if_needed(sweep.name),
                                 quoted_if_needed(sweep.base.string()));
  yaml += fmt::format("set: {}\n", sweep.set.empty() ? "null" : map_yaml(sweep.set));
  yaml += axes_yaml("grid", sweep.grid);
  yaml += paired_yaml(sweep.paired);
  yaml += exclude_yaml(sweep.exclude);
  yaml += axes_yaml("replicates", sweep.replicates);
  yaml += share_yaml(sweep.share);
  yaml +=
      fmt::format("keep_artifacts: {}\non_failure: {}\non_invalid: {}\noutput: {}\n",
                  name_of(sweep.keep_artifacts), sweep.stop_on_failure ? "stop" : "continue",
                  sweep.skip_invalid ? "skip" : "refuse", quoted_if_needed(sweep.output.string()));
  return yaml;
}

}  // namespace calque::config
