#pragma once

#include <filesystem>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "calque/job/job.h"
#include "config/diagnostics.h"
#include "config/yaml_tree.h"

namespace calque::config {

// One key of the job file, and the only place that lists it. Parsing, the resolved YAML and the
// documentation use it. Targets are the struct of the key's section, type-erased.
struct Key {
  std::string name;
  std::string type;                      // "integer, 1 or more"
  std::string doc;                       // one line
  std::string default_value;             // as YAML, or in words; empty: required
  std::vector<std::string> values = {};  // the most usual ones, for completion
  std::function<Problem(const YamlNode&, const std::filesystem::path& folder, void* target)> store;
  std::function<std::string(const void* target)> show;  // as YAML
  // A short way to write several neighbouring keys, or an earlier name of one. Read after them, so
  // that it wins, and not part of the resolved job.
  bool shorthand = false;
  bool documented = true;  // false: an earlier name
  // Tells if the key applies, given its neighbours' values ("format: gguf"); null: always.
  std::function<bool(const void* target)> applies;
  std::string applies_when;

  bool required() const { return default_value.empty(); }
};

// A section ("quantization", "quantization.fallback") or a list of sections ("export").
struct Section {
  enum class Presence {
    kAlways,    // left out: its defaults
    kRequired,  // must be written
    kOptional,  // if missing, not part of the job
  };

  std::string path;  // "" for the top level
  std::string doc;
  Presence presence = Presence::kAlways;
  bool list = false;
  // Returns the struct that holds the section's keys; for a list, appends a new one.
  std::function<void*(job::Job&)> open;
  // The section's structs in a job: one, none, or one per item of a list.
  std::function<std::vector<const void*>(const job::Job&)> instances;
  std::vector<Key> keys;
  // A list: reads an entry that is a word instead of a section; null: there are no such entries.
  std::function<Problem(const YamlNode& word, job::Job&)> word;

  const Key* find(std::string_view key) const;
};

// Every section in the order of the resolved YAML, parents before children.
const std::vector<Section>& sections();
const Section* find_section(std::string_view path);
// "quantization" and "fallback" give "quantization.fallback".
std::string join_path(std::string_view section, std::string_view name);
// Sections directly inside `section`.
std::vector<const Section*> children_of(const Section& section);

}  // namespace calque::config
