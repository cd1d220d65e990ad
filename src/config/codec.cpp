#include "config/codec.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <cmath>

#include "calque/core/paths.h"
#include "calque/core/quote.h"
#include "config/hints.h"

namespace calque::config {
namespace {

namespace fs = std::filesystem;

bool is_safe_plain(const std::string& text) {
  static const std::vector<std::string> reserved = {"true", "false", "null", "yes", "no", "on",
                                                    "off",  "y",     "n",    "nan", "inf"};
  const auto safe = [](unsigned char c) {
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' ||
           c == '-' || c == '.' || c == '/';
  };
  std::string lower = text;
  for (char& c : lower)
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  const bool starts_well =
      !text.empty() && (text[0] == '/' || text[0] == '_' || (lower[0] >= 'a' && lower[0] <= 'z'));
  return starts_well && std::all_of(text.begin(), text.end(), safe) &&
         std::find(reserved.begin(), reserved.end(), lower) == reserved.end();
}

fs::path resolve(const fs::path& folder, const std::string& text) {
  return without_end_slash(folder / text);
}

bool is_integer_text(std::string_view text) {
  if (!text.empty() && text.front() == '-') text.remove_prefix(1);
  return !text.empty() && std::all_of(text.begin(), text.end(),
                                      [](unsigned char c) { return c >= '0' && c <= '9'; });
}

template <typename T>
std::string range_text(T least, T most) {
  return most == std::numeric_limits<T>::max() ? fmt::format("{} or more", least)
                                               : fmt::format("{} to {}", least, most);
}

template <typename T>
Codec<T> integer_codec(T least, T most) {
  const std::string range = range_text(least, most);
  const auto parse = [=](const YamlNode& node, const fs::path&, T& value) -> Problem {
    if (!is_plain(node) || !is_integer_text(node.text)) return wrong_type("an integer", node);
    const std::optional<T> number = parsed<T>(node.text);
    if (!number || *number < least || *number > most)
      return {kOutOfRange, fmt::format("must be {}, not {}", range, node.text)};
    value = *number;
    return {};
  };
  return {"integer, " + range, parse, [](const T& value) { return fmt::format("{}", value); }};
}

struct Unit {
  std::string_view name;
  std::uint64_t bytes;
};
constexpr std::array kUnits{Unit{"GiB", 1ULL << 30},  Unit{"MiB", 1ULL << 20},
                            Unit{"KiB", 1ULL << 10},  Unit{"GB", 1'000'000'000ULL},
                            Unit{"MB", 1'000'000ULL}, Unit{"KB", 1'000ULL}};

// "3.2" units as whole bytes, rounded down.
std::optional<std::uint64_t> part_of_unit(std::string_view text, std::uint64_t unit_bytes) {
  const std::size_t point = text.find('.');
  const bool digits_around = point > 0 && point + 1 < text.size() &&
                             text.find_first_not_of("0123456789.") == std::string_view::npos &&
                             text.find('.', point + 1) == std::string_view::npos;
  const auto count = digits_around ? parsed<double>(text) : std::nullopt;
  const double bytes = count ? *count * static_cast<double>(unit_bytes) : -1;
  // 2^63; a larger double does not fit.
  if (bytes < 0 || bytes >= 9223372036854775808.0) return std::nullopt;
  return static_cast<std::uint64_t>(bytes);
}

std::optional<std::uint64_t> parse_bytes(std::string_view text) {
  std::uint64_t unit_bytes = 1;
  for (const Unit& unit : kUnits)
    if (text.ends_with(unit.name)) {
      unit_bytes = unit.bytes;
      text.remove_suffix(unit.name.size());
      while (text.ends_with(' ')) text.remove_suffix(1);
      break;
    }
  if (unit_bytes > 1 && text.find('.') != std::string_view::npos)
    return part_of_unit(text, unit_bytes);
  const auto count = parsed<std::uint64_t>(text);
  if (!count || *count > std::numeric_limits<std::uint64_t>::max() / unit_bytes)
    return std::nullopt;
  return *count * unit_bytes;
}

std::string show_bytes(std::uint64_t bytes) {
  for (const Unit& unit : kUnits)
    if (bytes >= unit.bytes && bytes % unit.bytes == 0)
      return fmt::format("{}{}", bytes / unit.bytes, unit.name);
  return fmt::format("{}", bytes);
}

bool is_device(std::string_view text) {
  return text == "auto" || text == "cpu" || text == "cuda" ||
         (text.starts_with("cuda:") && parsed<unsigned>(text.substr(5)).has_value());
}

}  // namespace

Problem wrong_type(const std::string& wanted, const YamlNode& node) {
  return {kWrongType, fmt::format("must be {}, not {}", wanted, describe(node))};
}

std::string quoted_if_needed(const std::string& text) {
  return is_safe_plain(text) ? text : yaml_quoted(text);
}

Codec<bool> boolean() {
  const auto parse = [](const YamlNode& node, const fs::path&, bool& value) -> Problem {
    if (!is_plain(node) || (node.text != "true" && node.text != "false"))
      return wrong_type("true or false", node);
    value = node.text == "true";
    return {};
  };
  return {"true or false",
          parse,
          [](bool value) { return value ? "true" : "false"; },
          {"true", "false"}};
}

namespace {

io::Json scalar_of(const YamlNode& node) {
  if (node.quoted) return node.text;
  if (node.text == "true" || node.text == "false") return node.text == "true";
  if (const auto whole = parsed<std::int64_t>(node.text)) return *whole;
  if (const auto number = parsed<double>(node.text); number && std::isfinite(*number))
    return *number;
  return node.text;
}

// Nothing, or the key that a map has twice.
std::optional<std::string> json_of(const YamlNode& node, io::Json& json) {
  switch (node.kind) {
    case YamlNode::Kind::kNull:
      json = nullptr;
      return std::nullopt;
    case YamlNode::Kind::kScalar:
      json = scalar_of(node);
      return std::nullopt;
    case YamlNode::Kind::kList:
      json = io::Json::array();
      for (const YamlNode& item : node.items) {
        json.push_back(nullptr);
        if (auto twice = json_of(item, json.back())) return twice;
      }
      return std::nullopt;
    case YamlNode::Kind::kMap:
      json = io::Json::object();
      for (const YamlEntry& entry : node.entries) {
        if (json.contains(entry.key)) return entry.key;
        if (auto twice = json_of(entry.value, json[entry.key])) return twice;
      }
      return std::nullopt;
  }
  return std::nullopt;
}

}  // namespace

Codec<io::Json> variables() {
  const auto parse = [](const YamlNode& node, const fs::path&, io::Json& value) -> Problem {
    if (node.kind != YamlNode::Kind::kMap) return wrong_type("a map", node);
    io::Json read;
    if (const auto twice = json_of(node, read))
      return {"E102", fmt::format("has the key '{}' twice", *twice)};
    value = std::move(read);
    return {};
  };
  return {"map", parse, [](const io::Json& value) { return value.dump(); }};
}

Codec<std::string> text() {
  const auto parse = [](const YamlNode& node, const fs::path&, std::string& value) -> Problem {
    if (node.kind != YamlNode::Kind::kScalar) return wrong_type("text", node);
    if (node.text.empty()) return {kOutOfRange, "must not be empty"};
    value = node.text;
    return {};
  };
  return {"text", parse, quoted_if_needed};
}

Codec<std::string> folder_name() {
  const auto parse = [](const YamlNode& node, const fs::path& folder,
                        std::string& value) -> Problem {
    std::string read;
    const Problem problem = text().parse(node, folder, read);
    if (!problem.empty()) return problem;
    if (read.find('/') != std::string::npos || read.front() == '.')
      return {kOutOfRange, "names a folder, so it must not contain '/' or begin with '.'"};
    value = read;
    return {};
  };
  return {"text", parse, quoted_if_needed};
}

Codec<fs::path> path() {
  const auto parse = [](const YamlNode& node, const fs::path& folder, fs::path& value) -> Problem {
    std::string read;
    const Problem problem = text().parse(node, folder, read);
    if (problem.empty()) value = resolve(folder, read);
    return problem;
  };
  return {"path", parse, [](const fs::path& value) { return quoted_if_needed(value.string()); }};
}

Codec<std::string> one_of(std::vector<std::string> names) {
  const auto parse = [names](const YamlNode& node, const fs::path&, std::string& value) -> Problem {
    const bool known = node.kind == YamlNode::Kind::kScalar &&
                       std::find(names.begin(), names.end(), node.text) != names.end();
    if (!known) return unknown_choice(node, names);
    value = node.text;
    return {};
  };
  return {fmt::format("{}", fmt::join(names, ", ")), parse, quoted_if_needed, names};
}

Problem unknown_choice(const YamlNode& node, const std::vector<std::string>& names) {
  if (node.kind != YamlNode::Kind::kScalar)
    return wrong_type(fmt::format("one of {}", fmt::join(names, ", ")), node);
  const auto meant = nearest(node.text, names);
  return {kUnknownName, fmt::format("must be one of {}, not '{}'{}", fmt::join(names, ", "),
                                    node.text, meant ? "; did you mean '" + *meant + "'?" : "")};
}

Codec<std::int64_t> integer(std::int64_t least, std::int64_t most) {
  return integer_codec<std::int64_t>(least, most);
}

Codec<int> small_integer(int least, int most) { return integer_codec<int>(least, most); }

Codec<std::uint64_t> seed() {
  return integer_codec<std::uint64_t>(0, std::numeric_limits<std::uint64_t>::max());
}

Codec<int> count_or_auto() {
  const Codec<int> count = integer_codec<int>(1, 4096);
  const auto parse = [count](const YamlNode& node, const fs::path& folder, int& value) -> Problem {
    if (!is_plain(node) || node.text != "auto") return count.parse(node, folder, value);
    value = 0;
    return {};
  };
  const auto show = [](int value) { return value == 0 ? "auto" : fmt::format("{}", value); };
  return {"auto, or an " + count.type, parse, show};
}

Codec<std::int64_t> group_size() {
  const Codec<std::int64_t> size = integer_codec<std::int64_t>(-1, 1 << 20);
  const auto parse = [size](const YamlNode& node, const fs::path& folder,
                            std::int64_t& value) -> Problem {
    std::int64_t candidate = 0;
    Problem problem = size.parse(node, folder, candidate);
    if (problem.empty() && candidate == 0)
      problem = {kOutOfRange, "must be -1 (one group per row) or 1 or more, not 0"};
    if (problem.empty()) value = candidate;
    return problem;
  };
  return {"-1 (one group per row), or an integer, 1 or more", parse, size.show};
}

Codec<double> number(double least, double most) {
  const bool bounded = std::isfinite(most);
  const std::string range =
      bounded ? fmt::format("{} to {}", least, most) : fmt::format("{} or more", least);
  const auto parse = [=](const YamlNode& node, const fs::path&, double& value) -> Problem {
    const auto read = is_plain(node) ? parsed<double>(node.text) : std::nullopt;
    if (!read) return wrong_type("a number", node);
    if (!std::isfinite(*read) || *read < least || *read > most)
      return {kOutOfRange, fmt::format("must be {}, not {}", range, node.text)};
    value = *read;
    return {};
  };
  return {"number, " + range, parse, [](double value) { return fmt::format("{}", value); }};
}

Codec<std::uint64_t> byte_size() {
  const auto parse = [](const YamlNode& node, const fs::path&, std::uint64_t& value) -> Problem {
    const auto bytes = node.kind == YamlNode::Kind::kScalar ? parse_bytes(node.text) : std::nullopt;
    if (!bytes) return wrong_type("a size such as 5GB, 500MB or 4GiB", node);
    if (*bytes == 0) return {kOutOfRange, "must be more than 0"};
    value = *bytes;
    return {};
  };
  return {"size (5GB, 500MB, 4GiB, or bytes)", parse, show_bytes};
}

Codec<std::uint64_t> byte_limit() {
  const auto parse = [](const YamlNode& node, const fs::path&, std::uint64_t& value) -> Problem {
    const auto bytes = node.kind == YamlNode::Kind::kScalar ? parse_bytes(node.text) : std::nullopt;
    if (!bytes) return wrong_type("a size such as 6GiB or 512MiB, or 0 for no limit", node);
    value = *bytes;
    return {};
  };
  return {"size (6GiB, 512MiB, 8GB, or bytes); 0: no limit", parse, show_bytes};
}

Codec<std::string> device() {
  const auto parse = [](const YamlNode& node, const std::filesystem::path&,
                        std::string& value) -> Problem {
    if (node.kind != YamlNode::Kind::kScalar) return wrong_type("auto, cpu, cuda or cuda:N", node);
    if (!is_device(node.text))
      return {kUnknownName, fmt::format("must be auto, cpu, cuda or cuda:N, not '{}'", node.text)};
    value = node.text;
    return {};
  };
  return {"auto, cpu, cuda, or cuda:N", parse, quoted_if_needed, {"auto", "cpu", "cuda"}};
}

}  // namespace calque::config
