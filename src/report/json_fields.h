#pragma once

#include <nlohmann/json.hpp>
#include <string>

namespace calque::report {

// Fields of objects in files that another version may have written: absent or null gives the
// default; another kind than asked for is nlohmann's exception, which load_run turns into E252.

using Json = nlohmann::json;

template <typename T>
T field(const Json& object, const char* name, T otherwise = {}) {
  const auto found = object.find(name);
  return found == object.end() || found->is_null() ? otherwise : found->get<T>();
}

inline const Json& section(const Json& object, const char* name) {
  static const Json kEmpty = Json::object();
  const auto found = object.find(name);
  return found == object.end() || found->is_null() ? kEmpty : *found;
}

}  // namespace calque::report
