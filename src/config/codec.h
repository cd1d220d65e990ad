#pragma once

#include <charconv>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <limits>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "calque/formats/plan.h"
#include "calque/io/json.h"
#include "config/diagnostics.h"
#include "config/yaml_tree.h"

namespace calque::config {

// Reads one kind of value from YAML, writes it back, and names it in the documentation.
template <typename V>
struct Codec {
  std::string type;  // "integer, 1 or more"
  // Changes `value` only if the result is empty. Relative paths are relative to `folder`.
  std::function<Problem(const YamlNode&, const std::filesystem::path& folder, V& value)> parse;
  std::function<std::string(const V&)> show;  // YAML that parse reads back to the same value
  std::vector<std::string> values = {};       // its values, if they are few words
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
Codec<std::uint64_t> byte_size();   // 5GB, 500MB, 4GiB, or bytes
Codec<std::uint64_t> byte_limit();  // a byte_size, or 0: no limit
Codec<std::string> text();          // not empty
Codec<std::string> folder_name();
Codec<std::filesystem::path> path();  // not empty; made absolute
Codec<std::string> device();
Codec<std::string> one_of(std::vector<std::string> names);
Codec<std::vector<std::int64_t>> lengths();   // [512, 0]
Codec<formats::Requirements> requirements();  // {vllm: true, tensor_parallel: [1, 2]}, or null
Codec<std::vector<formats::TensorTypeRule>> tensor_types();  // [{match: ffn_down, type: Q6_K}]

Codec<std::vector<std::string>> texts();  // ["\n", "Question:"]: none of them empty
Codec<io::Json> variables();              // {enable_thinking: false}: a map of anything

// As `inner`; null means an empty value.
template <typename V>
Codec<V> or_empty(const Codec<V>& inner) {
  const auto parse = [inner](const YamlNode& node, const std::filesystem::path& folder, V& value) {
    if (!node.is_null()) return inner.parse(node, folder, value);
    value = V{};
    return Problem{};
  };
  const auto show = [inner](const V& value) {
    return value == V{} ? std::string("null") : inner.show(value);
  };
  std::vector<std::string> values = inner.values;
  if (!values.empty()) values.emplace_back("null");
  return {inner.type + ", or null", parse, show, std::move(values)};
}

// True for a scalar without quotes: "4" in quotes is text.
inline bool is_plain(const YamlNode& node) {
  return node.kind == YamlNode::Kind::kScalar && !node.quoted;
}

// As `inner`; `word` means no value.
template <typename V>
Codec<std::optional<V>> or_word(const Codec<V>& inner, const std::string& word, std::string type) {
  const auto parse = [inner, word](const YamlNode& node, const std::filesystem::path& folder,
                                   std::optional<V>& value) {
    if (word == "null" ? node.is_null() : is_plain(node) && node.text == word) {
      value.reset();
      return Problem{};
    }
    V given{};
    Problem problem = inner.parse(node, folder, given);
    if (problem.empty()) value = given;
    return problem;
  };
  const auto show = [inner, word](const std::optional<V>& value) {
    return value ? inner.show(*value) : word;
  };
  std::vector<std::string> values = inner.values;
  if (!values.empty()) values.push_back(word);
  return {std::move(type), parse, show, std::move(values)};
}
// Null means that the value is not given.
template <typename V>
Codec<std::optional<V>> or_null(const Codec<V>& inner) {
  return or_word(inner, "null", inner.type + ", or null");
}
// "auto" leaves the value to the rest of the job.
template <typename V>
Codec<std::optional<V>> or_auto(const Codec<V>& inner) {
  return or_word(inner, "auto", "auto, or " + inner.type);
}

Problem unknown_choice(const YamlNode& node, const std::vector<std::string>& names);

template <typename V>
Codec<V> choice(std::vector<Choice<V>> choices) {
  std::vector<std::string> names;
  for (const Choice<V>& c : choices) names.push_back(c.name);
  Codec<V> codec;
  codec.type = one_of(names).type;
  codec.values = names;
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

// A YAML scalar that reads back as exactly this text: plain if that is safe, else double-quoted.
std::string quoted_if_needed(const std::string& text);

// Error codes of the codecs.
inline constexpr const char* kWrongType = "E105";
inline constexpr const char* kOutOfRange = "E106";
inline constexpr const char* kUnknownName = "E107";
Problem wrong_type(const std::string& wanted, const YamlNode& node);

// Parses all of `text`, or returns nothing.
template <typename T>
std::optional<T> parsed(std::string_view text) {
  T value{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

}  // namespace calque::config
