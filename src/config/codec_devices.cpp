#include <fmt/format.h>

#include <string_view>

#include "config/codec_parts.h"

namespace calque::config {
namespace {

bool is_device(std::string_view text) {
  return text == "auto" || text == "cpu" || text == "cuda" ||
         (text.starts_with("cuda:") && parsed<unsigned>(text.substr(5)).has_value());
}

}  // namespace

Codec<std::string> device() {
  const auto parse = [](const YamlNode& node, const std::filesystem::path&,
                        std::string& value) -> Problem {
    if (node.kind != YamlNode::Kind::kScalar) return wrong_type("auto, cpu, cuda or cuda:N", node);
    if (!is_device(node.text))
      return {kUnknownName, fmt::format("must be auto, cpu, cuda or cuda:N, not '{}'", node.text)};
    value = node.text;
    return {};
  };
  return {"auto, cpu, cuda, or cuda:N", parse, quoted_if_needed};
}

Codec<std::string> device_or_null() {
  const auto parse = [](const YamlNode& node, const std::filesystem::path& folder,
                        std::string& value) -> Problem {
    if (!node.is_null()) return device().parse(node, folder, value);
    value.clear();
    return {};
  };
  const auto show = [](const std::string& value) {
    return value.empty() ? std::string("null") : quoted_if_needed(value);
  };
  return {device().type + ", or null", parse, show};
}

}  // namespace calque::config
