#pragma once

#include <string>

#include "config/diagnostics.h"
#include "config/yaml_tree.h"

namespace calque::config {

// Puts "key.path=value" into the tree, as if the file said so; `source` is the override's number,
// from 1. Numbers in the path index lists ("export.0.type"); the number after the last item appends
// one. The value is taken as it is, or as YAML where it begins with one of [ { " '; "null" is null.
// Sections that are not there yet are made.
void apply_override(YamlNode& root, const std::string& assignment, int source,
                    Diagnostics& diagnostics);

}  // namespace calque::config
