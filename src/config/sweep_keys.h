#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "config/keys.h"

namespace calque::config {

// One key of the sweep file, for messages and the documentation.
struct SweepKey {
  std::string_view name;
  std::string_view type;
  std::string_view default_value;  // empty: required
  std::string_view doc;
};
const std::vector<SweepKey>& sweep_keys();

// Keys of the job file that have a short name in sweep files.
struct ShortName {
  std::string_view name;
  std::string_view path;
};
const std::vector<ShortName>& short_names();

// The place in the job file that a --set path leads to.
struct JobPlace {
  const Section* section = nullptr;
  const Key* key = nullptr;  // null: the whole section
};
// nullopt if the job file has no such path. Numbers index lists ("export.0.type").
std::optional<JobPlace> find_place(const std::string& path);
// All paths and short names, for finding the nearest one; lists with index 0.
std::vector<std::string> known_paths();

}  // namespace calque::config
