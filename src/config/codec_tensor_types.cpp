#include <fmt/format.h>
#include <fmt/ranges.h>

#include "config/codec_parts.h"

namespace calque::config {
namespace {

using Rule = formats::TensorTypeRule;
using Rules = std::vector<Rule>;

constexpr const char* kExample = "{match: ffn_down, type: Q6_K}";

Problem read_entry(const YamlEntry& entry, Rule& rule) {
  if (entry.key != "match" && entry.key != "type")
    return {"E101",
            fmt::format("has a rule with the unknown key '{}'; keys here: match, type", entry.key)};
  std::string& field = entry.key == "match" ? rule.match : rule.type;
  if (!field.empty()) return {"E102", fmt::format("has a rule with two keys '{}'", entry.key)};
  Problem problem = text().parse(entry.value, {}, field);
  if (!problem.empty()) problem.message = fmt::format("{} {}", entry.key, problem.message);
  return problem;
}

Problem read_rule(const YamlNode& node, Rule& rule) {
  if (node.kind != YamlNode::Kind::kMap)
    return wrong_type(fmt::format("a list of maps such as {}", kExample), node);
  for (const YamlEntry& entry : node.entries)
    if (Problem problem = read_entry(entry, rule); !problem.empty()) return problem;
  if (rule.match.empty() || rule.type.empty())
    return {"E108", fmt::format("has a rule without '{}'; a rule is a map such as {}",
                                rule.match.empty() ? "match" : "type", kExample)};
  return {};
}

Problem read_rules(const YamlNode& node, Rules& rules) {
  if (node.kind != YamlNode::Kind::kList)
    return wrong_type(fmt::format("a list of maps such as {}", kExample), node);
  for (const YamlNode& item : node.items)
    if (Problem problem = read_rule(item, rules.emplace_back()); !problem.empty()) return problem;
  return {};
}

std::string shown(const Rule& rule) {
  return fmt::format("{{match: {}, type: {}}}", quoted_if_needed(rule.match),
                     quoted_if_needed(rule.type));
}

}  // namespace

Codec<Rules> tensor_types() {
  const auto parse = [](const YamlNode& node, const std::filesystem::path&,
                        Rules& value) -> Problem {
    Rules given;
    Problem problem = node.is_null() ? Problem{} : read_rules(node, given);
    if (problem.empty()) value = given;
    return problem;
  };
  const auto show = [](const Rules& value) {
    std::vector<std::string> rules;
    for (const Rule& rule : value) rules.push_back(shown(rule));
    return fmt::format("[{}]", fmt::join(rules, ", "));
  };
  return {"list of maps: `match`, `type`", parse, show};
}

Codec<std::uint64_t> byte_size_or_null() {
  const auto parse = [](const YamlNode& node, const std::filesystem::path& folder,
                        std::uint64_t& value) -> Problem {
    if (!node.is_null()) return byte_size().parse(node, folder, value);
    value = 0;
    return {};
  };
  const auto show = [](const std::uint64_t& value) {
    return value == 0 ? std::string("null") : byte_size().show(value);
  };
  return {byte_size().type + ", or null", parse, show};
}

}  // namespace calque::config
