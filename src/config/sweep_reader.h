#pragma once

#include <filesystem>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "calque/config/sweep_file.h"
#include "config/diagnostics.h"
#include "config/yaml_tree.h"

namespace calque::config {

// Turns the tree of a sweep file into the struct; what is wrong goes to the diagnostics.
class SweepReader {
 public:
  // `file`: absolute; names the sweep and is what paths are relative to.
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

  // Every key of a map of the job file's keys, by its path.
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
  std::map<std::string, Claim> claimed_;  // which section sets a path
  const YamlEntry* exclude_ = nullptr;    // looked at when everything else is known
};

}  // namespace calque::config
