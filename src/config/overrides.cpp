#include "config/overrides.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <optional>
#include <string_view>
#include <vector>

namespace calque::config {
namespace {

using Kind = YamlNode::Kind;

std::vector<std::string> split_path(const std::string& path) {
  std::vector<std::string> parts(1);
  for (const char c : path) {
    if (c == '.')
      parts.emplace_back();
    else
      parts.back() += c;
  }
  return parts;
}

std::optional<std::size_t> index_of(const std::string& part) {
  std::size_t index = 0;
  const auto [end, error] = std::from_chars(part.data(), part.data() + part.size(), index);
  if (error != std::errc() || end != part.data() + part.size()) return std::nullopt;
  return index;
}

YamlNode* item_of(YamlNode& list, const std::string& part, const Mark& mark,
                  Diagnostics& diagnostics) {
  const auto index = index_of(part);
  if (!index || *index > list.items.size()) {
    diagnostics.add(mark, {"E101", fmt::format("'{}' is no place in a list of {}: use 0 to {}",
                                               part, list.items.size(), list.items.size())});
    return nullptr;
  }
  if (*index == list.items.size()) list.items.emplace_back().mark = mark;
  return &list.items[*index];
}

YamlNode* value_of(YamlNode& map, const std::string& part, const Mark& mark) {
  if (YamlEntry* entry = map.find(part)) {
    entry->mark = mark;
    return &entry->value;
  }
  map.entries.push_back({part, mark, {}});
  map.entries.back().value.mark = mark;
  return &map.entries.back().value;
}

// One step along the path; what is not there yet becomes a list or a section, as `part` needs.
YamlNode* descend(YamlNode& node, const std::string& part, const Mark& mark,
                  Diagnostics& diagnostics) {
  if (node.is_null()) node.kind = index_of(part) ? Kind::kList : Kind::kMap;
  if (node.kind == Kind::kList) return item_of(node, part, mark, diagnostics);
  if (node.kind == Kind::kMap) return value_of(node, part, mark);
  diagnostics.add(
      mark, {"E105", fmt::format("there is nothing called '{}' inside {}", part, describe(node))});
  return nullptr;
}

YamlNode value_node(const std::string& text, int source, Diagnostics& diagnostics) {
  if (!text.empty() && std::string_view("[{\"'").find(text.front()) != std::string_view::npos)
    return parse_yaml(text, source, diagnostics);
  YamlNode node;
  if (text.empty() || text == "null") return node;
  node.kind = Kind::kScalar;
  node.text = text;
  return node;
}

}  // namespace

void apply_override(YamlNode& root, const std::string& assignment, int source,
                    Diagnostics& diagnostics) {
  const Mark mark{source, 0, 0};
  const std::size_t equals = assignment.find('=');
  const std::vector<std::string> path = split_path(assignment.substr(0, equals));
  const bool gap = std::any_of(path.begin(), path.end(), [](auto& part) { return part.empty(); });
  if (equals == std::string::npos || gap) {
    diagnostics.add(mark, {"E104", "must be KEY.PATH=VALUE, such as quantization.bits=4"});
    return;
  }
  YamlNode* node = &root;
  for (const std::string& part : path) {
    node = descend(*node, part, mark, diagnostics);
    if (!node) return;
  }
  *node = value_node(assignment.substr(equals + 1), source, diagnostics);
  node->mark = mark;
}

}  // namespace calque::config
