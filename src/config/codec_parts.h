#pragma once

#include <fmt/format.h>

#include <charconv>
#include <optional>
#include <string>
#include <string_view>

#include "config/codec.h"

namespace calque::config {

// What the codecs say about a value that is not theirs.
inline constexpr const char* kWrongType = "E105";
inline constexpr const char* kOutOfRange = "E106";
inline constexpr const char* kUnknownName = "E107";

inline Problem wrong_type(const std::string& wanted, const YamlNode& node) {
  return {kWrongType, fmt::format("must be {}, not {}", wanted, describe(node))};
}

// A scalar without quotes: "4" in quotes is text.
inline bool is_plain(const YamlNode& node) {
  return node.kind == YamlNode::Kind::kScalar && !node.quoted;
}

// The whole of `text`, or nothing.
template <typename T>
std::optional<T> parsed(std::string_view text) {
  T value{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

}  // namespace calque::config
