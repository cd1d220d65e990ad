#include <fmt/format.h>
#include <fmt/ranges.h>

#include "config/codec.h"

// Codecs of values that are lists or maps.

namespace calque::config {
namespace {

namespace fs = std::filesystem;

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

Problem read_tensor_parallel(const YamlNode& node, std::vector<Index>& sizes) {
  if (node.kind != YamlNode::Kind::kList || node.items.empty())
    return wrong_type("a list of sizes, such as [1, 2, 4]", node);
  std::vector<Index> given;
  for (const YamlNode& item : node.items) {
    std::int64_t size = 0;
    if (Problem problem = integer(1, 1 << 16).parse(item, {}, size); !problem.empty())
      return problem;
    given.push_back(size);
  }
  sizes = given;
  return {};
}

}  // namespace

Codec<std::vector<std::int64_t>> lengths() {
  const auto parse = [](const YamlNode& node, const fs::path&,
                        std::vector<std::int64_t>& value) -> Problem {
    if (node.kind != YamlNode::Kind::kList) return wrong_type("a list such as [512, 0]", node);
    std::vector<std::int64_t> given;
    for (const YamlNode& item : node.items) {
      std::int64_t length = 0;
      Problem problem = integer(0, 1 << 20).parse(item, {}, length);
      if (!problem.empty()) return problem;
      if (length == 1) return {kOutOfRange, "has a length of 1; windows need 2 tokens"};
      given.push_back(length);
    }
    value = given;
    return {};
  };
  const auto show = [](const std::vector<std::int64_t>& value) {
    return fmt::format("[{}]", fmt::join(value, ", "));
  };
  return {"list of integers, each 0 or 2 to 1048576", parse, show};
}

Codec<std::vector<std::string>> texts() {
  const auto parse = [](const YamlNode& node, const fs::path& folder,
                        std::vector<std::string>& value) -> Problem {
    if (node.kind != YamlNode::Kind::kList) return wrong_type("a list of texts", node);
    std::vector<std::string> given;
    for (const YamlNode& item : node.items)
      if (Problem problem = text().parse(item, folder, given.emplace_back()); !problem.empty()) {
        problem.message = fmt::format("has an entry that {}", problem.message);
        return problem;
      }
    value = given;
    return {};
  };
  const auto show = [](const std::vector<std::string>& value) {
    std::vector<std::string> shown;
    for (const std::string& one : value) shown.push_back(quoted_if_needed(one));
    return fmt::format("[{}]", fmt::join(shown, ", "));
  };
  return {"list of texts", parse, show};
}

Codec<formats::Requirements> requirements() {
  const auto parse = [](const YamlNode& node, const fs::path&,
                        formats::Requirements& value) -> Problem {
    formats::Requirements given;
    if (node.is_null()) {
      value = given;
      return {};
    }
    if (node.kind != YamlNode::Kind::kMap)
      return wrong_type("a map such as {vllm: true, tensor_parallel: [1, 2]}", node);
    for (const YamlEntry& entry : node.entries) {
      Problem problem;
      if (entry.key == "vllm")
        problem = boolean().parse(entry.value, {}, given.vllm);
      else if (entry.key == "transformers")
        problem = boolean().parse(entry.value, {}, given.transformers);
      else if (entry.key == "tensor_parallel")
        problem = read_tensor_parallel(entry.value, given.tensor_parallel);
      else
        problem = {"E101",
                   fmt::format("has the unknown key '{}'; keys here: vllm, tensor_parallel, "
                               "transformers",
                               entry.key)};
      if (!problem.empty()) {
        if (problem.code != "E101") problem.message = entry.key + " " + problem.message;
        return problem;
      }
    }
    value = given;
    return {};
  };
  const auto show = [](const formats::Requirements& value) {
    if (!value.any()) return std::string("null");
    return fmt::format("{{vllm: {}, tensor_parallel: [{}]{}}}", value.vllm,
                       fmt::join(value.tensor_parallel, ", "),
                       value.transformers ? ", transformers: true" : "");
  };
  return {"map: `vllm`, `tensor_parallel`, `transformers`; or null", parse, show};
}

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

}  // namespace calque::config
