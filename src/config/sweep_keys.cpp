#include "config/sweep_keys.h"

#include <fmt/format.h>

#include <algorithm>

#include "calque/config/sweep_file.h"

namespace calque::config {
namespace {

bool is_number(std::string_view part) {
  return !part.empty() &&
         std::all_of(part.begin(), part.end(), [](char c) { return c >= '0' && c <= '9'; });
}

// "export.0.type" without its numbers.
std::string without_indices(const std::string& path) {
  std::string kept;
  std::size_t begin = 0;
  while (begin <= path.size()) {
    const std::size_t end = std::min(path.find('.', begin), path.size());
    const std::string part = path.substr(begin, end - begin);
    if (!is_number(part)) kept += (kept.empty() ? "" : ".") + part;
    begin = end + 1;
  }
  return kept;
}

std::string indexed(const Section& section) {
  return section.list ? section.path + ".0" : section.path;
}

}  // namespace

const std::vector<SweepKey>& sweep_keys() {
  static const std::vector<SweepKey> keys = {
      {"version", "1", "", "Version of the sweep file's format."},
      {"name", "text", "the file's name", "Name of the sweep."},
      {"base", "path", "", "The job file that every point starts from."},
      {"set", "keys with a value", "null",
       "Keys of the job file and their values, the same for every point."},
      {"grid", "keys with a list of values", "null",
       "Keys of the job file, each with a list of values. Every combination is a point; the last "
       "key changes fastest."},
      {"paired", "list of keys with a value", "null",
       "Values that change together: each entry of the list is combined with every point of the "
       "grid. All entries set the same keys."},
      {"exclude", "list of keys with a value or a list", "null",
       "Points to leave out: those that have, for every key of an entry, the given value or one of "
       "the given values."},
      {"replicates", "keys with a list of values", "null",
       "Run every point once for each value (usually of `seed`); results are means with standard "
       "deviations."},
      {"share", "list of tokens, reference, statistics", "all that is exact",
       "Work that points share: tokenized texts (`tokens`); the original's final hidden states, "
       "for evaluation (`reference`); statistics of the linears' inputs (`statistics`), only with "
       "`propagate_error: false`, which keeps them the same for all points."},
      {"keep_artifacts", "none, pareto, all", "none",
       "Artifacts to keep after they are measured; `pareto`: those that no other point beats in "
       "both bytes and KL divergence."},
      {"on_failure", "continue, stop", "continue",
       "What to do after a failed point. In either case the sweep ends with exit code 7, and the "
       "table has the error."},
      {"on_invalid", "refuse, skip", "refuse",
       "For invalid points (such as a group size that does not divide): refuse the sweep before "
       "anything runs, or list them as failed."},
      {"output", "path", "runs/<name>",
       "Folder of the sweep, with `results.csv`, `runs.csv`, `points/` and `shared/`. Several "
       "processes and machines may share one."},
  };
  return keys;
}

const std::vector<ShortName>& short_names() {
  static const std::vector<ShortName> names = {
      {"bits", "quantization.bits"},
      {"group_size", "quantization.group_size"},
      {"sym", "quantization.sym"},
      {"method", "quantization.method"},
      {"damp_percent", "quantization.damp_percent"},
      {"propagate_error", "quantization.propagate_error"},
      {"n_samples", "calibration.n_samples"},
      {"seed", "calibration.seed"},
      {"format", "export.0.format"},
      {"type", "export.0.type"},
      {"scheme", "export.0.scheme"},
  };
  return names;
}

std::string full_path_of(const std::string& name) {
  for (const ShortName& known : short_names())
    if (known.name == name) return std::string(known.path);
  return name;
}

std::string short_name_of(const std::string& path) {
  for (const ShortName& known : short_names())
    if (known.path == path) return std::string(known.name);
  return path.substr(path.rfind('.') + 1);
}

std::optional<JobPlace> find_place(const std::string& path) {
  const std::string plain = without_indices(path);
  if (const Section* section = find_section(plain); section && !plain.empty())
    return JobPlace{section, nullptr};
  const std::size_t dot = plain.rfind('.');
  const Section* section = find_section(dot == std::string::npos ? "" : plain.substr(0, dot));
  const Key* key =
      section ? section->find(dot == std::string::npos ? plain : plain.substr(dot + 1)) : nullptr;
  // A key inside a list must say which entry; a key outside has no entries.
  if (!key || (section->list == (plain == path))) return std::nullopt;
  return JobPlace{section, key};
}

std::vector<std::string> known_paths() {
  std::vector<std::string> paths;
  for (const ShortName& known : short_names()) paths.emplace_back(known.name);
  for (const Section& section : sections())
    for (const Key& key : section.keys)
      if (key.documented) paths.push_back(join_path(indexed(section), key.name));
  return paths;
}

std::string sweep_key_reference() {
  std::string page =
      "### Sweep file\n\n"
      "The input of `calque sweep`: a job file and the values to run it with.\n\n"
      "| Key | Value | Default | Meaning |\n|---|---|---|---|\n";
  for (const SweepKey& key : sweep_keys()) {
    const std::string value = key.default_value.empty() ? "required"
                              : key.default_value.find(' ') == std::string_view::npos
                                  ? fmt::format("`{}`", key.default_value)
                                  : std::string(key.default_value);
    page += fmt::format("| `{}` | {} | {} | {} |\n", key.name, key.type, value, key.doc);
  }
  page +=
      "\nKeys of the job file are named by their path, as for `--set`. These also have short "
      "names:\n\n"
      "| Short | Path |\n|---|---|\n";
  for (const ShortName& name : short_names())
    page += fmt::format("| `{}` | `{}` |\n", name.name, name.path);
  return page;
}

}  // namespace calque::config
