#include "config/job_reader.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "config/hints.h"

namespace calque::config {
namespace {

using Kind = YamlNode::Kind;

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

// A letter and nothing else, so that names print as they are.
std::string fit_for_a_file_name(std::string text) {
  for (char& c : text)
    if (c == '/' || static_cast<unsigned char>(c) < 0x20) c = '-';
  if (text.empty() || text.front() == '.') text.insert(0, "model");
  return text;
}

std::string name_of_model(const std::filesystem::path& path) {
  return path.extension() == ".gguf" ? path.stem().string() : path.filename().string();
}

}  // namespace

job::Job JobReader::read(const YamlNode& root) {
  read_section(root, root.mark, *find_section(""));
  check_choices_between_keys();
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
  for (const YamlNode& item : node.items) read_map(item, item.mark, section);
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
  // A missing value is best shown at its key: its own mark is where the next line begins.
  diagnostics_.add(entry.value.is_null() ? entry.mark : entry.value.mark, problem);
}

void JobReader::refuse_unknown(const YamlEntry& entry, const Section& section) {
  const std::string value = entry.value.kind == Kind::kScalar ? entry.value.text : "";
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
    diagnostics_.add(entry->mark, {"E109", fmt::format("'{}' only means something with {}. "
                                                       "Remove it here.",
                                                       key->name, key->applies_when)});
  }
}

void JobReader::refuse_contradictions(const std::vector<Given>& given, const void* target) {
  for (const auto& [key, entry] : given)
    if (key->shorthand && key->show && key->show(target) != entry->value.text)
      diagnostics_.add(
          entry->mark,
          {"E109", fmt::format("'{}: {}' and the keys beside it that it stands for disagree: they "
                               "make it {}. Remove it or them.",
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
                                          "calibration.sources or calibration.tokens, or use "
                                          "method: rtn",
                                          job_.quantization.method())});
  if (marks_.count("export") && job_.exports.empty())
    diagnostics_.add(mark_of("export"), {"E108", "export must have at least one entry"});
  if (!job_.evaluate) return;
  const job::EvaluationSettings& evaluate = *job_.evaluate;
  const int given = !evaluate.text.empty() + !evaluate.tokens.empty() + !evaluate.texts.empty();
  if (given != 1)
    diagnostics_.add(mark_of("evaluate"), {given == 0 ? "E108" : "E109",
                                           "evaluate needs one of text, tokens and texts"});
}

void JobReader::fill_names() {
  if (job_.name.empty())
    job_.name =
        fit_for_a_file_name(fmt::format("{}-{}-{}bit", name_of_model(job_.model.path),
                                        job_.quantization.method(), job_.quantization.grid.bits));
  if (job_.run_dir.empty()) job_.run_dir = folder_ / "runs" / job_.name;
}

Mark JobReader::mark_of(const std::string& path) const {
  const auto found = marks_.find(path);
  return found == marks_.end() ? Mark{} : found->second;
}

}  // namespace calque::config
