#include "formats/module_patterns.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cctype>
#include <map>

#include "calque/core/error.h"
#include "calque/core/names.h"

namespace calque::formats {
namespace {

constexpr std::string_view kRegexPrefix = "re:";
constexpr std::size_t kMaxPatternBytes = 1 << 14;
// Limit on steps. Module names have about fifty characters: a pattern without nested repetition
// needs far fewer steps, and the limit is reached in a fraction of a second.
constexpr std::uint32_t kMatchLimit = 1'000'000;

[[noreturn]] void refuse_pattern(const std::string& pattern, const std::string& reason) {
  throw Error(ErrorKind::kConfig, "E152", quote_name(pattern) + " " + reason);
}

text::Regex compile(const std::string& pattern, const std::string& regex, bool anchored) {
  if (pattern.size() > kMaxPatternBytes)
    refuse_pattern(pattern, fmt::format("is {} bytes long; at most {} are allowed", pattern.size(),
                                        kMaxPatternBytes));
  try {
    return {regex, {.anchored = anchored, .match_limit = kMatchLimit}};
  } catch (const text::RegexError& error) {
    refuse_pattern(
        pattern, fmt::format("is not a valid regular expression: {} (at offset {}{})", error.what(),
                             error.offset(), anchored ? " after 're:'" : ""));
  }
}

// A glob as a regular expression for the whole name.
std::string regex_of_glob(std::string_view glob) {
  std::string regex;
  for (const char c : glob) {
    if (c == '*')
      regex += ".*";
    else if (c == '?')
      regex += '.';
    else if (std::isalnum(static_cast<unsigned char>(c)) || c == '_' || (c & 0x80))
      regex += c;
    else
      regex += std::string("\\") + c;
  }
  return regex + "\\z";
}

bool is_regex(std::string_view pattern) { return pattern.starts_with(kRegexPrefix); }

std::string literal_characters(std::string_view pattern) {
  if (is_regex(pattern)) pattern.remove_prefix(kRegexPrefix.size());
  std::string text;
  for (std::size_t i = 0; i < pattern.size(); ++i) {
    const char c = pattern[i];
    const bool any = c == '.' && i + 1 < pattern.size() && pattern[i + 1] == '*';
    if (!any && (std::isalnum(static_cast<unsigned char>(c)) || c == '.' || c == '_')) text += c;
  }
  return text;
}

// Smallest number of edits between `text` and any part of `name`.
std::size_t distance_to_part(std::string_view text, std::string_view name) {
  std::vector<std::size_t> row(name.size() + 1, 0);
  for (std::size_t i = 1; i <= text.size(); ++i) {
    std::size_t diagonal = row[0];
    row[0] = i;
    for (std::size_t j = 1; j <= name.size(); ++j) {
      const std::size_t replaced = diagonal + (text[i - 1] == name[j - 1] ? 0 : 1);
      diagonal = row[j];
      row[j] = std::min({replaced, row[j] + 1, row[j - 1] + 1});
    }
  }
  return *std::min_element(row.begin(), row.end());
}

}  // namespace

ModuleMatcher::ModuleMatcher(const std::string& pattern, const std::string& regex, bool anchored)
    : pattern_(pattern), regex_(compile(pattern, regex, anchored)) {}

ModuleMatcher::ModuleMatcher(const std::string& pattern)
    : ModuleMatcher(
          pattern, is_regex(pattern) ? pattern.substr(kRegexPrefix.size()) : regex_of_glob(pattern),
          /*anchored=*/true) {}

ModuleMatcher ModuleMatcher::searching(const std::string& regex) {
  return {regex, regex, /*anchored=*/false};
}

bool ModuleMatcher::matches(std::string_view module) const {
  try {
    return regex_.matches(module);
  } catch (const text::RegexError& error) {
    refuse_pattern(pattern_,
                   fmt::format("cannot be matched against '{}': {}", module, error.what()));
  }
}

std::string nearest_module(const std::string& pattern, const std::vector<std::string>& names) {
  const std::string text = literal_characters(pattern);
  const auto nearer = [&](const std::string& a, const std::string& b) {
    return distance_to_part(text, a) < distance_to_part(text, b);
  };
  const auto nearest = std::min_element(names.begin(), names.end(), nearer);
  return nearest == names.end() ? std::string() : *nearest;
}

namespace {

// Module names contain layer numbers, sometimes expert numbers, in one of a few shapes.
constexpr std::string_view kAnyNumber = R"(\d+)";

struct Numbers {
  std::string layer;  // the first number; "" if there is none
  std::string rest;   // the other numbers, joined by dots
};

struct Shape {
  std::string text;  // escaped, with % for every number
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

// Sorted by name.
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

// Patterns for the layer number and the further number of one kind that match `chosen` out of
// `all`.
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

namespace {

// "model.layers.3.mlp" -> "model.layers.*.mlp"
std::string without_numbers(std::string_view path) {
  std::string result;
  std::size_t at = 0;
  while (at <= path.size()) {
    const std::size_t end = std::min(path.find('.', at), path.size());
    const std::string_view part = path.substr(at, end - at);
    const bool number = !part.empty() && std::all_of(part.begin(), part.end(), [](unsigned char c) {
      return std::isdigit(c) != 0;
    });
    if (!result.empty()) result += '.';
    result += number ? std::string_view("*") : part;
    at = end + 1;
  }
  return result;
}

std::string braces(const std::vector<std::string>& roles) {
  if (roles.size() == 1) return roles.front();
  constexpr std::string_view kSuffix = "_proj";
  const bool all_proj = std::all_of(roles.begin(), roles.end(),
                                    [&](const std::string& r) { return r.ends_with(kSuffix); });
  if (!all_proj) return fmt::format("{{{}}}", fmt::join(roles, ","));
  std::vector<std::string> stems;
  for (const std::string& role : roles)
    stems.push_back(role.substr(0, role.size() - kSuffix.size()));
  return fmt::format("{{{}}}{}", fmt::join(stems, ","), kSuffix);
}

}  // namespace

std::string module_pattern(const std::vector<const model::LinearSpec*>& linears) {
  std::vector<std::string> parents;
  std::vector<std::vector<std::string>> roles_of_parent;
  for (const model::LinearSpec* linear : linears) {
    const std::size_t dot = linear->name.rfind('.');
    const std::string parent =
        dot == std::string::npos ? "" : without_numbers(linear->name.substr(0, dot)) + ".";
    const auto found = std::find(parents.begin(), parents.end(), parent);
    const auto at = static_cast<std::size_t>(found - parents.begin());
    if (found == parents.end()) {
      parents.push_back(parent);
      roles_of_parent.emplace_back();
    }
    auto& roles = roles_of_parent[at];
    if (std::find(roles.begin(), roles.end(), linear->role) == roles.end())
      roles.push_back(linear->role);
  }
  std::vector<std::string> patterns;
  for (std::size_t i = 0; i < parents.size(); ++i)
    patterns.push_back(parents[i] + braces(roles_of_parent[i]));
  return fmt::format("{}", fmt::join(patterns, ", "));
}

}  // namespace calque::formats
