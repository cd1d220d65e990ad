#include "config/codec.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <string_view>

#include "calque/core/paths.h"
#include "calque/core/quote.h"
#include "config/codec_parts.h"
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

}  // namespace

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
  return {"true or false", parse, [](bool value) { return value ? "true" : "false"; }};
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

Codec<std::string> one_of_or_null(std::vector<std::string> names) {
  const Codec<std::string> inner = one_of(std::move(names));
  const auto parse = [inner](const YamlNode& node, const fs::path& folder,
                             std::string& value) -> Problem {
    if (!node.is_null()) return inner.parse(node, folder, value);
    value.clear();
    return {};
  };
  const auto show = [inner](const std::string& value) {
    return value.empty() ? std::string("null") : inner.show(value);
  };
  return {inner.type + ", or null", parse, show};
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
  const auto show = [](const formats::Requirements& value) {
    if (!value.any()) return std::string("null");
    return fmt::format("{{vllm: {}, tensor_parallel: [{}]}}", value.vllm,
                       fmt::join(value.tensor_parallel, ", "));
  };
  return {"map: `vllm`, `tensor_parallel`; or null", parse, show};
}

}  // namespace calque::config
