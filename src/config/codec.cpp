#include "config/codec.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <limits>
#include <string_view>

#include "config/hints.h"

namespace calque::config {
namespace {

namespace fs = std::filesystem;

constexpr const char* kWrongType = "E105";
constexpr const char* kOutOfRange = "E106";
constexpr const char* kUnknownName = "E107";

Problem wrong_type(const std::string& wanted, const YamlNode& node) {
  return {kWrongType, fmt::format("must be {}, not {}", wanted, describe(node))};
}

bool is_plain(const YamlNode& node) { return node.kind == YamlNode::Kind::kScalar && !node.quoted; }

// The whole of `text`, or nothing.
template <typename T>
std::optional<T> parsed(std::string_view text) {
  T value{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
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

std::optional<std::uint64_t> parse_bytes(std::string_view text) {
  std::uint64_t unit_bytes = 1;
  for (const Unit& unit : kUnits)
    if (text.ends_with(unit.name)) {
      unit_bytes = unit.bytes;
      text.remove_suffix(unit.name.size());
      while (text.ends_with(' ')) text.remove_suffix(1);
      break;
    }
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
  fs::path path = (folder / text).lexically_normal();
  if (!path.has_filename()) path = path.parent_path();  // "out/" means "out"
  return path;
}

}  // namespace

std::string quoted_if_needed(const std::string& text) {
  if (is_safe_plain(text)) return text;
  std::string quoted = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\')
      quoted += fmt::format("\\{}", c);
    else if (c == '\n')
      quoted += "\\n";
    else if (c == '\t')
      quoted += "\\t";
    else if (static_cast<unsigned char>(c) < 0x20 || c == 0x7F)
      quoted += fmt::format("\\x{:02x}", static_cast<unsigned>(c));
    else
      quoted += c;
  }
  return quoted + "\"";
}

Codec<bool> boolean() {
  const auto parse = [](const YamlNode& node, const fs::path&, bool& value) -> Problem {
    if (!is_plain(node) || (node.text != "true" && node.text != "false"))
      return wrong_type("true or false", node);
    value = node.text == "true";
    return {};
  };
  return {"true or false", parse, [](bool value) { return value ? "true" : "false"; }};
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
      problem = {kOutOfRange, "must be -1 (one group a row) or 1 or more, not 0"};
    if (problem.empty()) value = candidate;
    return problem;
  };
  return {"-1 (one group a row), or an integer, 1 or more", parse, size.show};
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

Codec<std::optional<double>> number_or_auto(double least, double most) {
  const Codec<double> plain = number(least, most);
  const auto parse = [plain](const YamlNode& node, const fs::path& folder,
                             std::optional<double>& value) -> Problem {
    if (is_plain(node) && node.text == "auto") {
      value.reset();
      return {};
    }
    double read = 0;
    Problem problem = plain.parse(node, folder, read);
    if (problem.empty()) value = read;
    return problem;
  };
  const auto show = [plain](const std::optional<double>& value) {
    return value ? plain.show(*value) : std::string("auto");
  };
  return {"auto, or a " + plain.type, parse, show};
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

Codec<std::string> text() {
  const auto parse = [](const YamlNode& node, const fs::path&, std::string& value) -> Problem {
    if (node.kind != YamlNode::Kind::kScalar) return wrong_type("text", node);
    if (node.text.empty()) return {kOutOfRange, "must not be empty"};
    value = node.text;
    return {};
  };
  return {"text", parse, quoted_if_needed};
}

Codec<std::string> text_or_null() {
  const auto parse = [](const YamlNode& node, const fs::path& folder,
                        std::string& value) -> Problem {
    if (!node.is_null()) return text().parse(node, folder, value);
    value.clear();
    return {};
  };
  const auto show = [](const std::string& value) {
    return value.empty() ? "null" : quoted_if_needed(value);
  };
  return {"text, or null", parse, show};
}

Codec<std::optional<std::string>> optional_text() {
  const auto parse = [](const YamlNode& node, const fs::path& folder,
                        std::optional<std::string>& value) -> Problem {
    std::string read;
    const Problem problem = text_or_null().parse(node, folder, read);
    if (problem.empty()) value = node.is_null() ? std::nullopt : std::optional(read);
    return problem;
  };
  const auto show = [](const std::optional<std::string>& value) {
    return value ? quoted_if_needed(*value) : "null";
  };
  return {"text, or null", parse, show};
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

Codec<fs::path> path_or_null() {
  const auto parse = [](const YamlNode& node, const fs::path& folder, fs::path& value) -> Problem {
    if (!node.is_null()) return path().parse(node, folder, value);
    value.clear();
    return {};
  };
  const auto show = [](const fs::path& value) {
    return value.empty() ? "null" : quoted_if_needed(value.string());
  };
  return {"path, or null", parse, show};
}

Codec<std::string> device() {
  const auto parse = [](const YamlNode& node, const fs::path&, std::string& value) -> Problem {
    if (node.kind != YamlNode::Kind::kScalar) return wrong_type("auto, cpu or cuda:N", node);
    const std::string_view read = node.text;
    const bool cuda = read.starts_with("cuda:") && parsed<unsigned>(read.substr(5)).has_value();
    if (read != "auto" && read != "cpu" && !cuda)
      return {kUnknownName, fmt::format("must be auto, cpu or cuda:N, not '{}'", read)};
    value = node.text;
    return {};
  };
  return {"auto, cpu, or cuda:N", parse, quoted_if_needed};
}

Codec<std::string> one_of(std::vector<std::string> names) {
  const auto parse = [names](const YamlNode& node, const fs::path&, std::string& value) -> Problem {
    const bool known = node.kind == YamlNode::Kind::kScalar &&
                       std::find(names.begin(), names.end(), node.text) != names.end();
    if (!known) return unknown_choice(node, names);
    value = node.text;
    return {};
  };
  return {fmt::format("{}", fmt::join(names, ", ")), parse, quoted_if_needed};
}

Problem unknown_choice(const YamlNode& node, const std::vector<std::string>& names) {
  if (node.kind != YamlNode::Kind::kScalar)
    return wrong_type(fmt::format("one of {}", fmt::join(names, ", ")), node);
  const auto meant = nearest(node.text, names);
  return {kUnknownName, fmt::format("must be one of {}, not '{}'{}", fmt::join(names, ", "),
                                    node.text, meant ? "; did you mean '" + *meant + "'?" : "")};
}

namespace {

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

Codec<artifact::Requirements> requirements() {
  const auto parse = [](const YamlNode& node, const fs::path&,
                        artifact::Requirements& value) -> Problem {
    artifact::Requirements given;
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
      else if (entry.key == "tensor_parallel")
        problem = read_tensor_parallel(entry.value, given.tensor_parallel);
      else
        problem = {"E101", fmt::format("has the unknown key '{}'; keys here: vllm, tensor_parallel",
                                       entry.key)};
      if (!problem.empty()) {
        if (problem.code != "E101") problem.message = entry.key + " " + problem.message;
        return problem;
      }
    }
    value = given;
    return {};
  };
  const auto show = [](const artifact::Requirements& value) {
    if (!value.any()) return std::string("null");
    return fmt::format("{{vllm: {}, tensor_parallel: [{}]}}", value.vllm,
                       fmt::join(value.tensor_parallel, ", "));
  };
  return {"map: `vllm`, `tensor_parallel`; or null", parse, show};
}

}  // namespace calque::config
