#pragma once

#include <map>
#include <vector>

#include "calque/core/matrix.h"

namespace calque {

// Numbers that belong to a layer's keys and values: one each, or one a key/value head.
struct KvNumbers {
  std::vector<float> keys;
  std::vector<float> values;

  bool empty() const { return keys.empty() && values.empty(); }
};
using KvNumbersByLayer = std::map<Index, KvNumbers>;

}  // namespace calque
