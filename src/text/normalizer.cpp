#include "text/normalizer.h"

#include <fmt/format.h>

#include <memory>
#include <vector>

#include "text/pattern.h"
#include "text/unicode.h"

namespace calque::text {
namespace {

Normalizer to_form(NormalForm form) {
  return [form](const std::string& text) { return normalized(text, form); };
}

Normalizer prepend(const JsonNode& node) {
  return [prefix = node.at("prepend").string()](const std::string& text) {
    return text.empty() ? text : prefix + text;
  };
}

std::string replace_all(const Pattern& pattern, const std::string& content,
                        const std::string& text) {
  std::string result;
  for (const auto& [span, matched] : cut_at_matches(pattern, text))
    result += matched ? content : text.substr(span.begin, span.end - span.begin);
  return result;
}

Normalizer replace(const JsonNode& node) {
  return [pattern = std::make_shared<const Pattern>(node.at("pattern")),
          content = node.at("content").string()](const std::string& text) {
    return replace_all(*pattern, content, text);
  };
}

Normalizer sequence(const JsonNode& list) {
  std::vector<Normalizer> steps;
  for (std::size_t i = 0; i < list.size(); ++i) steps.push_back(make_normalizer(list.at(i)));
  return [steps](std::string text) {
    for (const Normalizer& step : steps) text = step(std::move(text));
    return text;
  };
}

}  // namespace

Normalizer make_normalizer(const JsonNode& node) {
  if (node.value().is_null()) return [](std::string text) { return text; };
  const std::string& type = node.at("type").string();
  if (type == "NFC") return to_form(NormalForm::kNfc);
  if (type == "NFD") return to_form(NormalForm::kNfd);
  if (type == "NFKC") return to_form(NormalForm::kNfkc);
  if (type == "NFKD") return to_form(NormalForm::kNfkd);
  if (type == "Lowercase") return [](const std::string& text) { return lower_case(text); };
  if (type == "Prepend") return prepend(node);
  if (type == "Replace") return replace(node);
  if (type == "Sequence") return sequence(node.at("normalizers"));
  unsupported(node, fmt::format("normalizer '{}' is not implemented", type));
}

}  // namespace calque::text
