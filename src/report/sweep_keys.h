#pragma once

#include <string>
#include <vector>

#include "calque/report/record.h"

namespace calque::report {

// The values of a swept key among the sweep's points: numbers in ascending order with -1 (one group
// a row: the largest) last, other values in the order they come.
std::vector<std::string> values_of(const Sweep& sweep, const std::string& key);

// The key that colours tell apart: of those with 2 to 8 values, one that the axis of sizes does not
// show already (bits, type), else any. "": none.
std::string colour_key(const Sweep& sweep);

// "group_size" for "quantization.group_size".
std::string short_key(const std::string& key);

}  // namespace calque::report
