#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <limits>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "calque/formats/plan.h"
#include "config/diagnostics.h"
#include "config/yaml_tree.h"

namespace calque::config {

// How one kind of value is read from YAML, written back, and called in the documentation.
template <typename V>
struct Codec {
  std::string type;  // "integer, 1 or more"
  // Changes `value` only if the result is empty. `folder`: what relative paths are relative to.
  std::function<Problem(const YamlNode&, const std::filesystem::path& folder, V& value)> parse;
  std::function<std::string(const V&)> show;  // YAML that parse reads back to the same value
};

template <typename V>
struct Choice {
  std::string name;
  V value;
};

Codec<bool> boolean();
Codec<std::int64_t> integer(std::int64_t least,
                            std::int64_t most = std::numeric_limits<std::int64_t>::max());
Codec<int> small_integer(int least, int most);
Codec<std::uint64_t> seed();
Codec<int> count_or_auto();  // auto is 0
Codec<std::int64_t> group_size();
Codec<double> number(double least, double most);
Codec<std::optional<double>> number_or_auto(double least, double most);  // auto is nullopt
Codec<std::uint64_t> byte_size();          // 5GB, 500MB, 4GiB, or bytes
Codec<std::uint64_t> byte_size_or_null();  // null is 0
Codec<std::uint64_t> byte_limit();         // a byte_size, or 0: no limit
Codec<std::string> text();                 // not empty
Codec<std::string> text_or_null();         // null is ""
Codec<std::optional<std::string>> optional_text();
Codec<std::string> folder_name();
Codec<std::filesystem::path> path();  // not empty; made absolute
Codec<std::filesystem::path> path_or_null();
Codec<std::string> device();
Codec<std::string> device_or_null();  // null is ""
Codec<std::string> one_of(std::vector<std::string> names);
Codec<std::string> one_of_or_null(std::vector<std::string> names);  // null is ""
Codec<std::vector<std::int64_t>> lengths();                         // [512, 0]
Codec<formats::Requirements> requirements();  // {vllm: true, tensor_parallel: [1, 2]}, or null
Codec<std::vector<formats::TensorTypeRule>> tensor_types();  // [{match: ffn_down, type: Q6_K}]

// `inner`, or null for "not said".
template <typename V>
Codec<std::optional<V>> or_null(const Codec<V>& inner) {
  Codec<std::optional<V>> codec;
  codec.type = inner.type + ", or null";
  codec.parse = [inner](const YamlNode& node, const std::filesystem::path& folder,
                        std::optional<V>& value) {
    if (node.is_null()) {
      value.reset();
      return Problem{};
    }
    V given{};
    Problem problem = inner.parse(node, folder, given);
    if (problem.empty()) value = given;
    return problem;
  };
  codec.show = [inner](const std::optional<V>& value) {
    return value ? inner.show(*value) : std::string("null");
  };
  return codec;
}

// `inner`, or auto for "as belongs to the rest of the job".
template <typename V>
Codec<std::optional<V>> or_auto(const Codec<V>& inner) {
  Codec<std::optional<V>> codec;
  codec.type = "auto, or " + inner.type;
  codec.parse = [inner](const YamlNode& node, const std::filesystem::path& folder,
                        std::optional<V>& value) {
    if (node.kind == YamlNode::Kind::kScalar && !node.quoted && node.text == "auto") {
      value.reset();
      return Problem{};
    }
    V given{};
    Problem problem = inner.parse(node, folder, given);
    if (problem.empty()) value = given;
    return problem;
  };
  codec.show = [inner](const std::optional<V>& value) {
    return value ? inner.show(*value) : std::string("auto");
  };
  return codec;
}

Problem unknown_choice(const YamlNode& node, const std::vector<std::string>& names);

template <typename V>
Codec<V> choice(std::vector<Choice<V>> choices) {
  std::vector<std::string> names;
  for (const Choice<V>& c : choices) names.push_back(c.name);
  Codec<V> codec;
  codec.type = one_of(names).type;
  codec.parse = [choices, names](const YamlNode& node, const std::filesystem::path&, V& value) {
    for (const Choice<V>& c : choices)
      if (node.kind == YamlNode::Kind::kScalar && node.text == c.name) {
        value = c.value;
        return Problem{};
      }
    return unknown_choice(node, names);
  };
  codec.show = [choices](const V& value) {
    for (const Choice<V>& c : choices)
      if (c.value == value) return c.name;
    return std::string("null");
  };
  return codec;
}

// A YAML scalar that reads back as exactly this text: plain where that is safe, else double-quoted.
std::string quoted_if_needed(const std::string& text);

}  // namespace calque::config
