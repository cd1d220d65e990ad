#include "formats/module_regex.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cctype>
#include <map>
#include <set>

namespace calque::formats {
namespace {

// Module names are layer numbers, perhaps expert numbers, in one of a few shapes.
constexpr std::string_view kAnyNumber = R"(\d+)";

struct Numbers {
  std::string layer;  // of the first number; "" if there is none
  std::string rest;   // of the others, joined by dots
};

struct Shape {
  std::string text;  // escaped, a % for every number
  Numbers numbers;
};

bool is_number(std::string_view part) {
  return !part.empty() && std::all_of(part.begin(), part.end(),
                                      [](unsigned char c) { return std::isdigit(c) != 0; });
}

Shape shape_of(std::string_view name) {
  Shape shape;
  for (std::size_t at = 0; at <= name.size();) {
    const std::size_t end = std::min(name.find('.', at), name.size());
    const std::string part(name.substr(at, end - at));
    if (at > 0) shape.text += "\\.";
    shape.text += is_number(part) ? "%" : part;
    if (is_number(part) && shape.numbers.layer.empty())
      shape.numbers.layer = part;
    else if (is_number(part))
      shape.numbers.rest += (shape.numbers.rest.empty() ? "" : ".") + part;
    at = end + 1;
  }
  return shape;
}

// In the order of the names.
using Rests = std::vector<std::string>;
using Layers = std::vector<std::pair<std::string, Rests>>;

struct Kinds {
  std::vector<std::string> order;
  std::map<std::string, Layers> layers_of;
};

Kinds kinds_of(const std::vector<std::string>& names) {
  Kinds kinds;
  for (const std::string& name : names) {
    const Shape shape = shape_of(name);
    if (kinds.layers_of.count(shape.text) == 0) kinds.order.push_back(shape.text);
    Layers& layers = kinds.layers_of[shape.text];
    const auto same = [&](const auto& entry) { return entry.first == shape.numbers.layer; };
    auto found = std::find_if(layers.begin(), layers.end(), same);
    if (found == layers.end()) found = layers.insert(layers.end(), {shape.numbers.layer, {}});
    found->second.push_back(shape.numbers.rest);
  }
  return kinds;
}

std::string one_of(const std::vector<std::string>& items) {
  if (items.size() == 1) return items.front();
  return fmt::format("({})", fmt::join(items, "|"));
}

// Patterns for the layer and the further number of one kind, that match `chosen` out of `all`.
std::vector<std::pair<std::string, std::string>> number_patterns(const Layers& chosen,
                                                                 const Layers& all) {
  if (chosen == all) return {{std::string(kAnyNumber), std::string(kAnyNumber)}};
  std::map<std::string, Rests> everything(all.begin(), all.end());
  std::vector<std::pair<std::string, std::vector<std::string>>> layers_by_rest;
  for (const auto& [layer, rests] : chosen) {
    const std::string rest = everything[layer] == rests ? std::string(kAnyNumber) : one_of(rests);
    const auto same = [&](const auto& entry) { return entry.first == rest; };
    auto found = std::find_if(layers_by_rest.begin(), layers_by_rest.end(), same);
    if (found == layers_by_rest.end())
      found = layers_by_rest.insert(layers_by_rest.end(), {rest, {}});
    found->second.push_back(layer);
  }
  std::vector<std::pair<std::string, std::string>> patterns;
  for (const auto& [rest, layers] : layers_by_rest) patterns.emplace_back(one_of(layers), rest);
  return patterns;
}

std::string filled(const std::string& shape, const std::string& layer, const std::string& rest) {
  std::string text;
  bool first = true;
  for (const char c : shape) {
    if (c != '%') {
      text += c;
      continue;
    }
    text += first ? layer : rest;
    first = false;
  }
  return text;
}

}  // namespace

std::vector<std::string> regexes_of(const std::vector<std::string>& chosen,
                                    const std::vector<std::string>& all) {
  const Kinds kinds = kinds_of(chosen);
  Kinds every_kind = kinds_of(all);
  std::vector<std::string> parents;
  std::map<std::string, std::vector<std::string>> roles_of;
  for (const std::string& shape : kinds.order) {
    const Layers& layers = kinds.layers_of.at(shape);
    for (const auto& [layer, rest] : number_patterns(layers, every_kind.layers_of[shape])) {
      const std::size_t dot = shape.rfind('.');
      const std::size_t role = dot == std::string::npos ? 0 : dot + 1;
      const std::string parent = filled(shape.substr(0, role), layer, rest);
      if (roles_of.count(parent) == 0) parents.push_back(parent);
      roles_of[parent].push_back(shape.substr(role));
    }
  }
  std::vector<std::string> regexes;
  for (const std::string& parent : parents)
    regexes.push_back(parent + one_of(roles_of[parent]) + "$");
  return regexes;
}

}  // namespace calque::formats
