#include "calque/config/sweep_file.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <filesystem>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "config/codec.h"
#include "config/diagnostics.h"
#include "config/hints.h"
#include "config/sweep_keys.h"
#include "config/yaml_tree.h"

namespace calque::config {
namespace {

using Kind = YamlNode::Kind;

// ---- Reading

// Always quoted: quoted values are text, whatever they look like.
std::string in_quotes(const std::string& text) {
  const std::string quoted = quoted_if_needed(text);
  return quoted.front() == '"' ? quoted : '"' + quoted + '"';
}

std::string flow_text(const YamlNode& node);

std::string inside(const YamlNode& node) {
  const bool plain = node.kind == YamlNode::Kind::kScalar && !node.quoted;
  // Inside brackets, a plain scalar must not contain these characters.
  const bool safe = plain && node.text.find_first_of(",[]{}#:") == std::string::npos;
  return plain && !safe ? in_quotes(node.text) : flow_text(node);
}

// A value on one line, as --set takes it: plain scalars as written, quoted ones in double quotes,
// nothing as "null", lists and maps in YAML's flow style.
std::string flow_text(const YamlNode& node) {
  std::vector<std::string> parts;
  switch (node.kind) {
    case YamlNode::Kind::kNull:
      return "null";
    case YamlNode::Kind::kScalar:
      return node.quoted ? in_quotes(node.text) : node.text;
    case YamlNode::Kind::kList:
      for (const YamlNode& item : node.items) parts.push_back(inside(item));
      return fmt::format("[{}]", fmt::join(parts, ", "));
    case YamlNode::Kind::kMap:
      for (const YamlEntry& entry : node.entries)
        parts.push_back(fmt::format("{}: {}", in_quotes(entry.key), inside(entry.value)));
      return fmt::format("{{{}}}", fmt::join(parts, ", "));
  }
  return {};
}

// True for keys that every point sets for itself, or that would make it another job.
bool is_reserved(const std::string& path, const JobPlace& place) {
  if (path == "version" || path == "name" || path == "run_dir") return true;
  return place.key && place.section->path == "export" &&
         (place.key->name == "path" || place.key->name == "overwrite");
}

// Turns the tree of a sweep file into the struct. Faults go to the diagnostics.
class SweepReader {
 public:
  // `file` is absolute; it names the sweep, and paths are relative to its folder.
  SweepReader(const std::filesystem::path& file, Diagnostics& diagnostics)
      : file_(file), diagnostics_(diagnostics) {}
  SweepFile read(const YamlNode& root);

 private:
  using ReadEntry = std::function<void(const YamlEntry&, const std::string& path)>;

  void read_key(const YamlEntry& entry);
  void refuse_unknown(const YamlEntry& entry);
  void require_all(const YamlNode& root);
  void read_choices(const YamlEntry& entry);
  void read_share(const YamlEntry& entry);
  void read_grid(const YamlEntry& entry, std::vector<SweepAxis>& to);
  void read_paired(const YamlEntry& entry);
  void read_exclude(const YamlEntry& entry);

  // Calls `read` for every key in a map of job-file keys, with its path.
  void each_job_key(const YamlNode& map, const std::string& where, const ReadEntry& read);
  std::optional<std::string> job_path(const YamlEntry& entry);
  void claim(const std::string& path, const Mark& mark, const std::string& where);
  std::optional<Setting> setting(const YamlNode& value, const std::string& path);
  std::vector<std::string> values(const YamlEntry& entry, const std::string& path, bool or_single);
  bool is(const YamlEntry& entry, YamlNode::Kind kind, const char* wanted);
  std::string choice(const YamlEntry& entry, const std::vector<std::string>& names);

  std::filesystem::path file_;
  Diagnostics& diagnostics_;
  SweepFile sweep_;
  struct Claim {
    std::string where;
    Mark mark;
  };
  std::map<std::string, Claim> claimed_;  // the section that sets each path
  const YamlEntry* exclude_ = nullptr;    // checked when everything else is known
};

SweepFile SweepReader::read(const YamlNode& root) {
  if (root.kind != Kind::kMap) {
    diagnostics_.add(root.mark,
                     {"E105", fmt::format("a sweep file must be a section (key: value), not {}",
                                          describe(root))});
    return {};
  }
  refuse_duplicates(root, diagnostics_);
  for (const YamlEntry& entry : root.entries) read_key(entry);
  require_all(root);
  if (exclude_) read_exclude(*exclude_);
  if (sweep_.name.empty()) sweep_.name = file_.stem().string();
  if (sweep_.output.empty()) sweep_.output = file_.parent_path() / "runs" / sweep_.name;
  return std::move(sweep_);
}

void SweepReader::read_key(const YamlEntry& entry) {
  const auto read = [&](const auto& codec, auto& target) {
    Problem problem = codec.parse(entry.value, file_.parent_path(), target);
    if (problem.empty()) return;
    problem.message = fmt::format("{} {}", entry.key, problem.message);
    diagnostics_.add(entry.value.is_null() ? entry.mark : entry.value.mark, problem);
  };
  std::int64_t version = 1;
  if (entry.key == "version")
    read(integer(1, 1), version);
  else if (entry.key == "name")
    read(folder_name(), sweep_.name);
  else if (entry.key == "base")
    read(path(), sweep_.base);
  else if (entry.key == "output")
    read(path(), sweep_.output);
  else if (entry.key == "set")
    each_job_key(entry.value, "set", [&](const YamlEntry& key, const std::string& path) {
      claim(path, key.mark, "set");
      if (auto given = setting(key.value, path)) sweep_.set.push_back(*given);
    });
  else if (entry.key == "grid")
    read_grid(entry, sweep_.grid);
  else if (entry.key == "replicates")
    read_grid(entry, sweep_.replicates);
  else if (entry.key == "paired")
    read_paired(entry);
  else if (entry.key == "exclude")
    exclude_ = &entry;
  else if (entry.key == "share")
    read_share(entry);
  else
    read_choices(entry);
}

void SweepReader::read_choices(const YamlEntry& entry) {
  if (entry.key == "keep_artifacts") {
    const std::string chosen = choice(entry, {"none", "pareto", "all"});
    sweep_.keep_artifacts = chosen == "all"      ? KeepArtifacts::kAll
                            : chosen == "pareto" ? KeepArtifacts::kPareto
                                                 : KeepArtifacts::kNone;
  } else if (entry.key == "on_failure") {
    sweep_.stop_on_failure = choice(entry, {"continue", "stop"}) == "stop";
  } else if (entry.key == "on_invalid") {
    sweep_.skip_invalid = choice(entry, {"refuse", "skip"}) == "skip";
  } else {
    refuse_unknown(entry);
  }
}

void SweepReader::refuse_unknown(const YamlEntry& entry) {
  std::vector<std::string> names;
  for (const SweepKey& key : sweep_keys()) names.emplace_back(key.name);
  std::string message = fmt::format("unknown key '{}' in a sweep file", entry.key);
  if (const auto meant = nearest(entry.key, names))
    message += fmt::format("; did you mean '{}'?", *meant);
  else if (find_place(full_path_of(entry.key)))
    message += "; a key of the job file goes into set, grid, paired or replicates";
  else
    message += fmt::format("; keys here: {}", fmt::join(names, ", "));
  diagnostics_.add(entry.mark, {"E101", message});
}

void SweepReader::require_all(const YamlNode& root) {
  const auto has = [&](std::string_view name) {
    return std::any_of(root.entries.begin(), root.entries.end(),
                       [&](const YamlEntry& entry) { return entry.key == name; });
  };
  for (const SweepKey& key : sweep_keys())
    if (key.default_value.empty() && !has(key.name))
      diagnostics_.add(root.mark, {"E108", fmt::format("a sweep file needs the key '{}': {}",
                                                       key.name, key.doc)});
  if (!has("grid") && !has("paired"))
    diagnostics_.add(root.mark,
                     {"E108",
                      "a sweep file needs grid or paired: without them there is one point, "
                      "which 'calque run' does"});
}

void SweepReader::read_share(const YamlEntry& entry) {
  if (entry.value.is_null() || !is(entry, Kind::kList, "a list such as [tokens, reference]"))
    return;
  sweep_.share = {.tokens = false, .reference = false, .statistics = false, .asked = true};
  for (const YamlNode& item : entry.value.items) {
    std::string name;
    const Problem problem =
        one_of({"tokens", "reference", "statistics"}).parse(item, file_.parent_path(), name);
    if (!problem.empty()) diagnostics_.add(item.mark, {problem.code, "share " + problem.message});
    (name == "tokens"      ? sweep_.share.tokens
     : name == "reference" ? sweep_.share.reference
                           : sweep_.share.statistics) |= !name.empty();
  }
}

void SweepReader::read_grid(const YamlEntry& entry, std::vector<SweepAxis>& to) {
  each_job_key(entry.value, entry.key, [&](const YamlEntry& key, const std::string& path) {
    claim(path, key.mark, entry.key);
    to.push_back({path, values(key, path, false)});
  });
}

void SweepReader::read_paired(const YamlEntry& entry) {
  if (entry.value.is_null() || !is(entry, Kind::kList, "a list of {key: value, ...}")) return;
  for (const YamlNode& item : entry.value.items) {
    Settings alternative;
    each_job_key(item, "paired", [&](const YamlEntry& key, const std::string& path) {
      if (sweep_.paired.empty()) claim(path, key.mark, "paired");
      if (auto given = setting(key.value, path)) alternative.push_back(*given);
    });
    const auto same_path = [](const Setting& a, const Setting& b) { return a.path == b.path; };
    if (!sweep_.paired.empty() &&
        !std::is_permutation(alternative.begin(), alternative.end(), sweep_.paired[0].begin(),
                             sweep_.paired[0].end(), same_path))
      diagnostics_.add(item.mark, {"E105",
                                   "every entry of paired must set the same keys as the "
                                   "first"});
    sweep_.paired.push_back(std::move(alternative));
  }
}

void SweepReader::read_exclude(const YamlEntry& entry) {
  if (entry.value.is_null() || !is(entry, Kind::kList, "a list of {key: value, ...}")) return;
  const std::vector<std::string> swept = sweep_.swept();
  for (const YamlNode& item : entry.value.items) {
    Exclusion exclusion;
    each_job_key(item, "exclude", [&](const YamlEntry& key, const std::string& path) {
      if (std::find(swept.begin(), swept.end(), path) == swept.end())
        diagnostics_.add(key.mark, {"E182", fmt::format("exclude uses '{}', which neither grid nor "
                                                        "paired changes; swept here: {}",
                                                        key.key, fmt::join(swept, ", "))});
      else
        exclusion.push_back({path, values(key, path, true)});
    });
    sweep_.exclude.push_back(std::move(exclusion));
  }
}

void SweepReader::each_job_key(const YamlNode& map, const std::string& where,
                               const ReadEntry& read) {
  if (map.is_null()) return;
  if (map.kind != Kind::kMap) {
    diagnostics_.add(map.mark,
                     {"E105", fmt::format("{} must be keys of the job file (quantization.bits: "
                                          "...), not {}",
                                          where, describe(map))});
    return;
  }
  refuse_duplicates(map, diagnostics_);
  for (const YamlEntry& entry : map.entries)
    if (const auto path = job_path(entry)) read(entry, *path);
}

std::optional<std::string> SweepReader::job_path(const YamlEntry& entry) {
  const std::string path = full_path_of(entry.key);
  const auto place = find_place(path);
  if (!place) {
    const std::string hint = foreign_key_hint(entry.key, "");
    for (const std::string& retired : {path, "quantization." + path})
      if (std::string instead = retired_key_hint(retired, ""); !instead.empty()) {
        diagnostics_.add(entry.mark, {"E117", instead});
        return std::nullopt;
      }
    std::string message = fmt::format("the job file has no key '{}'", entry.key);
    if (const auto meant = nearest(entry.key, known_paths()))
      message += fmt::format("; did you mean '{}'?", *meant);
    diagnostics_.add(entry.mark, hint.empty() ? Problem{"E101", message} : Problem{"E103", hint});
    return std::nullopt;
  }
  if (is_reserved(path, *place)) {
    diagnostics_.add(
        entry.mark,
        {"E183", fmt::format("a sweep cannot set '{}': every point has its own", entry.key)});
    return std::nullopt;
  }
  return path;
}

void SweepReader::claim(const std::string& path, const Mark& mark, const std::string& where) {
  const auto [place, is_new] = claimed_.try_emplace(path, Claim{where, mark});
  if (is_new) return;
  diagnostics_.add(mark, {"E181", fmt::format("'{}' is already given in {} (line {})", path,
                                              place->second.where, place->second.mark.line + 1)});
}

std::optional<Setting> SweepReader::setting(const YamlNode& value, const std::string& path) {
  const auto place = find_place(path);
  if (place && place->key) {
    job::Job scratch;
    Problem problem = place->key->store(value, file_.parent_path(), place->section->open(scratch));
    if (!problem.empty()) {
      problem.message = fmt::format("{} {}", path, problem.message);
      diagnostics_.add(value.mark, problem);
      return std::nullopt;
    }
  }
  return Setting{path, flow_text(value)};
}

std::vector<std::string> SweepReader::values(const YamlEntry& entry, const std::string& path,
                                             bool or_single) {
  std::vector<std::string> texts;
  const auto add = [&](const YamlNode& node) {
    if (auto given = setting(node, path)) {
      if (std::find(texts.begin(), texts.end(), given->value) != texts.end())
        diagnostics_.add(node.mark, {"E181", fmt::format("{} lists {} twice", path, given->value)});
      texts.push_back(given->value);
    }
  };
  if (entry.value.kind == Kind::kList)
    for (const YamlNode& item : entry.value.items) add(item);
  else if (or_single)
    add(entry.value);
  if (entry.value.kind != Kind::kList && !or_single)
    diagnostics_.add(entry.mark,
                     {"E105", fmt::format("{} must be a list of values ([4, 8]), not {}", entry.key,
                                          describe(entry.value))});
  else if (entry.value.kind == Kind::kList && entry.value.items.empty())
    diagnostics_.add(entry.mark, {"E105", fmt::format("{} has no values", entry.key)});
  return texts;
}

bool SweepReader::is(const YamlEntry& entry, Kind kind, const char* wanted) {
  if (entry.value.kind == kind) return true;
  diagnostics_.add(entry.value.mark, {"E105", fmt::format("{} must be {}, not {}", entry.key,
                                                          wanted, describe(entry.value))});
  return false;
}

std::string SweepReader::choice(const YamlEntry& entry, const std::vector<std::string>& names) {
  std::string chosen;
  const Problem problem = one_of(names).parse(entry.value, file_.parent_path(), chosen);
  if (!problem.empty())
    diagnostics_.add(entry.value.is_null() ? entry.mark : entry.value.mark,
                     {problem.code, entry.key + " " + problem.message});
  return chosen;
}

// ---- Writing

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
  diagnostics.throw_if_any();  // a syntax error makes later messages misleading
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
