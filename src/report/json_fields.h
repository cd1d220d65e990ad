#pragma once

#include <string>

#include "calque/io/json.h"

namespace calque::report {

// Fields of objects in files that another version may have written: absent or null gives the
// default; another kind than asked for is an Error, which load_run turns into E252.

using io::Json;

template <typename T>
T field(const Json& object, const char* name, T otherwise = {}) {
  const Json* found = object.find(name);
  return found == nullptr || found->is_null() ? otherwise : found->get<T>();
}

inline const Json& section(const Json& object, const char* name) {
  static const Json kEmpty = Json::object();
  const Json* found = object.find(name);
  return found == nullptr || found->is_null() ? kEmpty : *found;
}

inline const Json::Array& list(const Json& object, const char* name) {
  static const Json kEmpty = Json::array();
  const Json* found = object.find(name);
  return (found == nullptr || found->is_null() ? kEmpty : *found).elements();
}

}  // namespace calque::report
