#pragma once

#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "calque/job/job.h"
#include "config/diagnostics.h"
#include "config/keys.h"
#include "config/yaml_tree.h"

namespace calque::config {

// Walks a YAML tree along the table of keys and fills a job; everything that is wrong goes to the
// diagnostics.
class JobReader {
 public:
  // `folder`: what relative paths are relative to.
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
  void fill_names();
  // Where a section or key was written (its last place); the top of the file if it was not.
  Mark mark_of(const std::string& path) const;

  std::filesystem::path folder_;
  Diagnostics& diagnostics_;
  job::Job job_;
  std::map<std::string, Mark> marks_;
};

}  // namespace calque::config
