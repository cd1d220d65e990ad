#include "calque/config/job_file.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <charconv>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "calque/config/sweep_file.h"
#include "calque/core/error.h"
#include "calque/formats/format.h"
#include "calque/formats/scheme.h"
#include "calque/io/hub_cache.h"
#include "config/diagnostics.h"
#include "config/hints.h"
#include "config/keys.h"
#include "config/yaml_tree.h"

namespace calque::config {
namespace {

using Kind = YamlNode::Kind;

// ---- Values of the command line

std::vector<std::string> split_path(const std::string& path) {
  std::vector<std::string> parts(1);
  for (const char c : path) {
    if (c == '.')
      parts.emplace_back();
    else
      parts.back() += c;
  }
  return parts;
}

std::optional<std::size_t> index_of(const std::string& part) {
  std::size_t index = 0;
  const auto [end, error] = std::from_chars(part.data(), part.data() + part.size(), index);
  if (error != std::errc() || end != part.data() + part.size()) return std::nullopt;
  return index;
}

YamlNode* item_of(YamlNode& list, const std::string& part, const Mark& mark,
                  Diagnostics& diagnostics) {
  const auto index = index_of(part);
  if (!index || *index > list.items.size()) {
    diagnostics.add(mark, {"E101", fmt::format("'{}' is not an index of a list of {}: use 0 to {}",
                                               part, list.items.size(), list.items.size())});
    return nullptr;
  }
  if (*index == list.items.size()) list.items.emplace_back().mark = mark;
  return &list.items[*index];
}

YamlNode* value_of(YamlNode& map, const std::string& part, const Mark& mark) {
  if (YamlEntry* entry = map.find(part)) {
    entry->mark = mark;
    return &entry->value;
  }
  map.entries.push_back({part, mark, {}});
  map.entries.back().value.mark = mark;
  return &map.entries.back().value;
}

// Goes one step along the path. A missing node becomes a list or a section, as `part` requires.
YamlNode* descend(YamlNode& node, const std::string& part, const Mark& mark,
                  Diagnostics& diagnostics) {
  if (node.is_null()) node.kind = index_of(part) ? Kind::kList : Kind::kMap;
  if (node.kind == Kind::kList) return item_of(node, part, mark, diagnostics);
  if (node.kind == Kind::kMap) return value_of(node, part, mark);
  diagnostics.add(mark, {"E105", fmt::format("there is no '{}' inside {}", part, describe(node))});
  return nullptr;
}

YamlNode value_node(const std::string& text, int source, Diagnostics& diagnostics) {
  if (!text.empty() && std::string_view("[{\"'").find(text.front()) != std::string_view::npos)
    return parse_yaml(text, source, diagnostics);
  YamlNode node;
  if (text.empty() || text == "null") return node;
  node.kind = Kind::kScalar;
  node.text = text;
  return node;
}

// Applies "key.path=value" to the tree as if the file had said so; `source` is the override's
// number, from 1. Numbers in the path index lists ("export.0.type"); the number after the last item
// appends one. A value that begins with one of [ { " ' is parsed as YAML, any other is taken as it
// is; "null" is null. Missing sections are created.
void apply_override(YamlNode& root, const std::string& assignment, int source,
                    Diagnostics& diagnostics) {
  const Mark mark{source, 0, 0};
  const std::size_t equals = assignment.find('=');
  const std::vector<std::string> path = split_path(assignment.substr(0, equals));
  const bool gap = std::any_of(path.begin(), path.end(), [](auto& part) { return part.empty(); });
  if (equals == std::string::npos || gap) {
    diagnostics.add(mark, {"E104", "must be KEY.PATH=VALUE, such as quantization.bits=4"});
    return;
  }
  YamlNode* node = &root;
  for (const std::string& part : path) {
    node = descend(*node, part, mark, diagnostics);
    if (!node) return;
  }
  *node = value_node(assignment.substr(equals + 1), source, diagnostics);
  node->mark = mark;
}

// ---- Reading

std::vector<std::string> names_in(const Section& section) {
  std::vector<std::string> names;
  for (const Key& key : section.keys)
    if (key.documented) names.push_back(key.name);
  for (const Section* child : children_of(section))
    names.push_back(child->path.substr(child->path.rfind('.') + 1));
  return names;
}

// The section that has a key of this name, if not `here`.
const Section* other_home_of(const std::string& name, const Section& here) {
  for (const Section& section : sections())
    if (&section != &here && section.find(name)) return &section;
  return nullptr;
}

std::string quoted_path(const Section& section) {
  return section.path.empty() ? "the top level" : section.path;
}

// Replaces slashes and control characters; a leading dot gets "model" in front.
std::string fit_for_a_file_name(std::string text) {
  for (char& c : text)
    if (c == '/' || static_cast<unsigned char>(c) < 0x20) c = '-';
  if (text.empty() || text.front() == '.') text.insert(0, "model");
  return text;
}

// Walks a YAML tree along the table of keys and fills a job. All faults go to the diagnostics.
class JobReader {
 public:
  // Relative paths are relative to `folder`.
  JobReader(std::filesystem::path folder, Diagnostics& diagnostics)
      : folder_(std::move(folder)), diagnostics_(diagnostics) {}

  job::Job read(const YamlNode& root);

 private:
  struct Given {
    const Key* key;
    const YamlEntry* entry;
  };

  void read_section(const YamlNode& node, const Mark& mark, const Section& section);
  void read_list(const YamlNode& node, const Section& section);
  void read_map(const YamlNode& node, const Mark& mark, const Section& section);
  void read_entry(const YamlEntry& entry, const Section& section, void* target,
                  std::vector<Given>& given);
  void refuse_unknown(const YamlEntry& entry, const Section& section);
  void refuse_inapplicable(const std::vector<Given>& given, const void* target);
  void refuse_contradictions(const std::vector<Given>& given, const void* target);
  void require_all(const YamlNode& map, const Mark& mark, const Section& section);
  void check_choices_between_keys();
  void check_scheme();
  void settle_weights();
  void fill_names();
  // The last place where a section or key was written; the top of the file if it was not.
  Mark mark_of(const std::string& path) const;

  std::filesystem::path folder_;
  Diagnostics& diagnostics_;
  job::Job job_;
  std::map<std::string, Mark> marks_;
};

job::Job JobReader::read(const YamlNode& root) {
  read_section(root, root.mark, *find_section(""));
  check_choices_between_keys();
  settle_weights();
  fill_names();
  return std::move(job_);
}

void JobReader::read_section(const YamlNode& node, const Mark& mark, const Section& section) {
  marks_[section.path] = mark;
  if (section.list) return read_list(node, section);
  if (node.is_null() && section.presence == Section::Presence::kOptional) return;
  read_map(node, mark, section);
}

void JobReader::read_list(const YamlNode& node, const Section& section) {
  if (node.is_null()) return;
  if (node.kind != Kind::kList) {
    diagnostics_.add(node.mark, {"E105", fmt::format("{} must be a list (- ...), not {}",
                                                     section.path, describe(node))});
    return;
  }
  for (const YamlNode& item : node.items) {
    if (item.kind != Kind::kScalar || !section.word) {
      read_map(item, item.mark, section);
    } else if (Problem problem = section.word(item, job_); !problem.empty()) {
      diagnostics_.add(item.mark, std::move(problem));
    }
  }
}

void JobReader::read_map(const YamlNode& node, const Mark& mark, const Section& section) {
  if (node.kind != Kind::kMap && !node.is_null()) {
    diagnostics_.add(node.mark, {"E105", fmt::format("{} must be a section (key: value), not {}",
                                                     section.list ? "an entry of " + section.path
                                                                  : quoted_path(section),
                                                     describe(node))});
    return;
  }
  void* target = section.open(job_);
  std::vector<Given> given;
  const auto is_shorthand = [&](const YamlEntry& entry) {
    const Key* key = section.find(entry.key);
    return key != nullptr && key->shorthand;
  };
  for (const bool shorthand : {true, false})
    for (const YamlEntry& entry : node.entries)
      if (is_shorthand(entry) == shorthand) read_entry(entry, section, target, given);
  refuse_duplicates(node, diagnostics_);
  refuse_inapplicable(given, target);
  refuse_contradictions(given, target);
  require_all(node, mark, section);
}

void JobReader::read_entry(const YamlEntry& entry, const Section& section, void* target,
                           std::vector<Given>& given) {
  const std::string path = join_path(section.path, entry.key);
  if (const Section* child = find_section(path); child && !entry.key.empty())
    return read_section(entry.value, entry.mark, *child);
  const Key* key = section.find(entry.key);
  if (!key) return refuse_unknown(entry, section);
  marks_[path] = entry.mark;
  Problem problem = key->store(entry.value, folder_, target);
  if (problem.empty()) {
    given.push_back({key, &entry});
    return;
  }
  problem.message = fmt::format("{} {}", path, problem.message);
  // A missing value is reported at its key: its own mark is at the beginning of the next line.
  diagnostics_.add(entry.value.is_null() ? entry.mark : entry.value.mark, problem);
}

void JobReader::refuse_unknown(const YamlEntry& entry, const Section& section) {
  const std::string value = entry.value.kind == Kind::kScalar ? entry.value.text : "";
  if (std::string hint = retired_key_hint(join_path(section.path, entry.key), value); !hint.empty())
    return diagnostics_.add(entry.mark, {"E117", hint});
  if (std::string hint = foreign_key_hint(entry.key, value); !hint.empty())
    return diagnostics_.add(entry.mark, {"E103", hint});
  if (entry.key == "<<")
    return diagnostics_.add(entry.mark, {"E104",
                                         "merge keys (<<) are not supported; write the "
                                         "keys out"});
  std::string message = fmt::format("unknown key '{}' in {}", entry.key, quoted_path(section));
  const std::vector<std::string> names = names_in(section);
  if (const auto meant = nearest(entry.key, names))
    message += fmt::format("; did you mean '{}'?", *meant);
  else if (const Section* home = other_home_of(entry.key, section))
    message += fmt::format("; it belongs in {}", quoted_path(*home));
  else
    message += fmt::format("; keys here: {}", fmt::join(names, ", "));
  diagnostics_.add(entry.mark, {"E101", message});
}

void JobReader::refuse_inapplicable(const std::vector<Given>& given, const void* target) {
  for (const auto& [key, entry] : given) {
    if (!key->applies || key->applies(target) || entry->value.is_null()) continue;
    diagnostics_.add(entry->mark, {"E109", fmt::format("'{}' only applies with {}. Remove it here.",
                                                       key->name, key->applies_when)});
  }
}

void JobReader::refuse_contradictions(const std::vector<Given>& given, const void* target) {
  for (const auto& [key, entry] : given)
    if (key->shorthand && key->show && key->show(target) != entry->value.text)
      diagnostics_.add(entry->mark,
                       {"E109", fmt::format("'{}: {}' contradicts the keys that it is short for, "
                                            "which say {}. Remove one or the other.",
                                            key->name, entry->value.text, key->show(target))});
}

void JobReader::require_all(const YamlNode& map, const Mark& mark, const Section& section) {
  const auto has = [&](const std::string& name) {
    for (const YamlEntry& entry : map.entries)
      if (entry.key == name) return true;
    return false;
  };
  const auto missing = [&](const std::string& name, const std::string& doc) {
    diagnostics_.add(
        mark, {"E108", fmt::format("{} needs the key '{}': {}", quoted_path(section), name, doc)});
  };
  for (const Key& key : section.keys)
    if (key.required() && !has(key.name)) missing(key.name, key.doc);
  for (const Section* child : children_of(section))
    if (child->presence == Section::Presence::kRequired && !has(child->path))
      missing(child->path, child->doc);
}

void JobReader::check_choices_between_keys() {
  const job::CalibrationSettings& calibration = job_.calibration;
  if (!calibration.sources.empty() && !calibration.tokens.empty())
    diagnostics_.add(mark_of("calibration.tokens"),
                     {"E109", "calibration has both sources and tokens; keep one of them"});
  if (job_.quantization.needs_text() && !calibration.given() &&
      !marks_.count("calibration.sources"))
    diagnostics_.add(mark_of("calibration"),
                     {"E108", fmt::format("method {} needs calibration data: give "
                                          "calibration.sources (calque's own texts: sources: "
                                          "[builtin]) or calibration.tokens, or use method: rtn",
                                          job_.quantization.method())});
  check_scheme();
  if (marks_.count("export") && job_.exports.empty())
    diagnostics_.add(mark_of("export"), {"E108", "export must have at least one entry"});
  if (job_.evaluate && job_.evaluate->texts.empty() && job_.evaluate->tasks.empty())
    diagnostics_.add(mark_of("evaluate"),
                     {"E108",
                      "evaluate needs texts, such as texts: [{text: heldout.txt}], or "
                      "tasks, such as tasks: [builtin]"});
}

// "FP8_DYNAMIC", or "4bit".
std::string numbers_of(const job::Job& job) {
  for (const formats::ExportRequest& request : job.exports)
    if (!request.scheme.empty()) return request.scheme;
  return fmt::format("{}bit", job.quantization.grid.bits);
}

// The scheme of all folders of the job; null if they have none, or not the same.
const formats::Scheme* scheme_of_folders(const job::Job& job) {
  const formats::Scheme* found = nullptr;
  for (const formats::ExportRequest& request : job.exports) {
    const formats::Format* format = formats::find_format(request.format);
    if (format == nullptr || !format->is_folder) continue;
    const formats::Scheme* scheme = formats::find_scheme(request.scheme);
    if (scheme == nullptr || (found != nullptr && scheme != found)) return nullptr;
    found = scheme;
  }
  return found;
}

// Keys that say what the scheme of all folders says must agree with it, and have its values without
// being given.
void JobReader::check_scheme() {
  const formats::Scheme* scheme = scheme_of_folders(job_);
  if (scheme == nullptr) return;
  const auto settle = [&](const std::string& key, auto& said, const auto& schemes) {
    if (marks_.count("quantization." + key) && said != schemes)
      diagnostics_.add(mark_of("quantization." + key),
                       {"E133", fmt::format("{} is {}, but scheme {} has {}: leave out one of the "
                                            "two keys",
                                            key, said, scheme->name, schemes)});
    said = schemes;
  };
  formats::QuantizationRequest& grid = job_.quantization.grid;
  settle("bits", grid.bits, scheme->bits);
  settle("group_size", grid.group_size, scheme->group_size);
  settle("sym", grid.sym, scheme->sym);
}

void JobReader::settle_weights() {
  try {
    text::settle_weights(job_.calibration.sources);
  } catch (const Error& error) {
    diagnostics_.add(mark_of("calibration.sources"), {error.code(), error.what()});
  }
}

void JobReader::fill_names() {
  if (job_.name.empty())
    job_.name = fit_for_a_file_name(fmt::format("{}-{}-{}", io::name_of_model(job_.model.path),
                                                job_.quantization.method(), numbers_of(job_)));
  if (job_.run_dir.empty()) job_.run_dir = folder_ / "runs" / job_.name;
}

Mark JobReader::mark_of(const std::string& path) const {
  const auto found = marks_.find(path);
  return found == marks_.end() ? Mark{} : found->second;
}

// ---- Writing

std::string last_name(const Section& section) {
  return section.path.substr(section.path.rfind('.') + 1);
}

// True if a resolved job has the key.
bool belongs(const Key& key, const void* target) {
  return !key.shorthand && (!key.applies || key.applies(target));
}

std::string keys_yaml(const Section& section, const void* target, const std::string& indent) {
  std::string yaml;
  for (const Key& key : section.keys)
    if (belongs(key, target)) yaml += fmt::format("{}{}: {}\n", indent, key.name, key.show(target));
  return yaml;
}

std::string list_yaml(const Section& section, const job::Job& job, const std::string& indent) {
  std::string yaml;
  for (const void* item : section.instances(job)) {
    std::string entry = keys_yaml(section, item, indent + "    ");
    entry[indent.size() + 2] = '-';
    yaml += entry;
  }
  return yaml;
}

std::string section_yaml(const Section& section, const job::Job& job, const std::string& indent) {
  const auto instances = section.instances(job);
  const std::string head = indent + last_name(section) + ":";
  if (instances.empty()) return head + (section.list ? " []\n" : " null\n");
  if (section.list) return head + "\n" + list_yaml(section, job, indent);
  std::string yaml = head + "\n" + keys_yaml(section, instances.front(), indent + "  ");
  for (const Section* child : children_of(section))
    yaml += section_yaml(*child, job, indent + "  ");
  return yaml;
}

std::string default_cell(const Key& key) {
  if (key.required()) return "required";
  return key.default_value.front() == '`' ? key.default_value
                                          : fmt::format("`{}`", key.default_value);
}

std::string heading(const Section& section) {
  if (section.path.empty()) return "### Top level\n\n";
  const char* suffix = section.list ? " (list)" : "";
  return fmt::format("### `{}`{}\n\n{}\n\n", section.path, suffix, section.doc);
}

// "With `format: gguf`: Type of the embedding ..."
std::string meaning(const Key& key) {
  return key.applies_when.empty() ? key.doc
                                  : fmt::format("With `{}`: {}", key.applies_when, key.doc);
}

SectionFacts facts_of(const Section& section) {
  SectionFacts facts{section.path + (section.list ? ".*" : ""), section.doc, {}};
  for (const Key& key : section.keys)
    if (key.documented)
      facts.keys.push_back(
          {join_path(facts.path, key.name), key.type, meaning(key), key.default_value, key.values});
  return facts;
}

}  // namespace

job::Job load_job(const std::filesystem::path& file, const std::vector<std::string>& overrides) {
  return read_job(read_yaml_file(file, "job"), file, overrides);
}

job::Job read_job(const std::string& text, const std::filesystem::path& file,
                  const std::vector<std::string>& overrides) {
  Diagnostics diagnostics(file.string(), text, overrides);
  YamlNode root = parse_yaml(text, 0, diagnostics);
  diagnostics.throw_if_any();  // a syntax error makes later messages misleading
  for (std::size_t i = 0; i < overrides.size(); ++i)
    apply_override(root, overrides[i], static_cast<int>(i + 1), diagnostics);
  JobReader reader(std::filesystem::absolute(file).lexically_normal().parent_path(), diagnostics);
  job::Job job = reader.read(root);
  diagnostics.throw_if_any();
  return job;
}

std::string resolved_yaml(const job::Job& job) {
  const Section& top = *find_section("");
  std::string yaml = keys_yaml(top, &job, "");
  for (const Section* child : children_of(top)) yaml += section_yaml(*child, job, "");
  return yaml;
}

std::vector<std::pair<std::string, std::string>> settings_of(const job::Job& job) {
  std::vector<std::pair<std::string, std::string>> settings;
  for (const Section& section : sections()) {
    const auto instances = section.instances(job);
    for (std::size_t i = 0; i < instances.size(); ++i) {
      const std::string path =
          section.list ? join_path(section.path, std::to_string(i)) : section.path;
      for (const Key& key : section.keys)
        if (belongs(key, instances[i]))
          settings.emplace_back(join_path(path, key.name), key.show(instances[i]));
    }
  }
  return settings;
}

std::vector<SectionFacts> sections_of_job_file() {
  std::vector<SectionFacts> facts;
  for (const Section& section : sections()) facts.push_back(facts_of(section));
  return facts;
}

std::string key_reference() {
  std::string page;
  for (const Section& section : sections()) {
    if (!page.empty()) page += '\n';
    page += heading(section);
    page += "| Key | Value | Default | Meaning |\n|---|---|---|---|\n";
    for (const Key& key : section.keys) {
      if (!key.documented) continue;
      page += fmt::format("| `{}` | {} | {} | {} |\n", key.name, key.type, default_cell(key),
                          meaning(key));
    }
  }
  return page + "\n" + sweep_key_reference();
}

}  // namespace calque::config
