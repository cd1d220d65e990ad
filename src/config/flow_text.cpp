#include "config/flow_text.h"

#include <fmt/format.h>

#include <vector>

#include "config/codec.h"

namespace calque::config {
namespace {

// Always quoted: what was quoted is text, whatever it looks like.
std::string in_quotes(const std::string& text) {
  const std::string quoted = quoted_if_needed(text);
  return quoted.front() == '"' ? quoted : '"' + quoted + '"';
}

std::string inside(const YamlNode& node) {
  const bool plain = node.kind == YamlNode::Kind::kScalar && !node.quoted;
  // A plain scalar may hold what ends it inside brackets.
  const bool safe = plain && node.text.find_first_of(",[]{}#:") == std::string::npos;
  return plain && !safe ? in_quotes(node.text) : flow_text(node);
}

}  // namespace

std::string flow_text(const YamlNode& node) {
  std::vector<std::string> parts;
  switch (node.kind) {
    case YamlNode::Kind::kNull:
      return "null";
    case YamlNode::Kind::kScalar:
      return node.quoted ? in_quotes(node.text) : node.text;
    case YamlNode::Kind::kList:
      for (const YamlNode& item : node.items) parts.push_back(inside(item));
      return fmt::format("[{}]", fmt::join(parts, ", "));
    case YamlNode::Kind::kMap:
      for (const YamlEntry& entry : node.entries)
        parts.push_back(fmt::format("{}: {}", in_quotes(entry.key), inside(entry.value)));
      return fmt::format("{{{}}}", fmt::join(parts, ", "));
  }
  return {};
}

}  // namespace calque::config
