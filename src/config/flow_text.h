#pragma once

#include <string>

#include "config/yaml_tree.h"

namespace calque::config {

// A value in one line, as --set takes it: plain scalars as they are written, quoted ones in double
// quotes, nothing as "null", lists and maps in YAML's flow style.
std::string flow_text(const YamlNode& node);

}  // namespace calque::config
