#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "config/diagnostics.h"

namespace calque::config {

struct YamlEntry;

// A YAML document as written: duplicate keys are kept, every node knows its place, and plain and
// quoted scalars can be told apart. (yaml-cpp's own nodes hide all three.)
struct YamlNode {
  enum class Kind { kNull, kScalar, kList, kMap };

  Kind kind = Kind::kNull;
  std::string text;     // kScalar
  bool quoted = false;  // kScalar: quoted or a block scalar, so never a number or a boolean
  Mark mark;
  std::vector<YamlNode> items;     // kList
  std::vector<YamlEntry> entries;  // kMap

  bool is_null() const { return kind == Kind::kNull; }
  YamlEntry* find(const std::string& key);
};

struct YamlEntry {
  std::string key;
  Mark mark;  // place of the key
  YamlNode value;
};

// Reads the text of a job or sweep file (`kind` is "job" or "sweep", for messages). Error(kConfig,
// "E111") for a folder, an unreadable file, or one larger than 1 MiB.
std::string read_yaml_file(const std::filesystem::path& file, const char* kind);

// Parses one document. Syntax errors, and YAML that job files do not allow (anchors and aliases,
// tags, keys that are not scalars, several documents), go to `diagnostics` (E104). Every mark gets
// `source`; those of overrides (source > 0) have no line.
YamlNode parse_yaml(const std::string& text, int source, Diagnostics& diagnostics);

// "text", "a list", ...: for messages.
std::string describe(const YamlNode& node);

// Reports E102 for every key that occurs twice in `map`.
void refuse_duplicates(const YamlNode& map, Diagnostics& diagnostics);

}  // namespace calque::config
