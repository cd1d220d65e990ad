#include "text/post_processor.h"

#include <fmt/format.h>

#include "calque/core/names.h"
#include "text/bpe.h"

namespace calque::text {
namespace {

TokenIds ids_of_special(const JsonNode& processor, const JsonNode& item) {
  const std::string& name = item.at("SpecialToken").at("id").string();
  if (!processor.at("special_tokens").has(name))
    item.refuse(fmt::format("special_tokens has no {}", quote_name(name)));
  const JsonNode list = processor.at("special_tokens").at(name).at("ids");
  TokenIds ids;
  for (std::size_t i = 0; i < list.size(); ++i)
    ids.push_back(static_cast<std::int32_t>(list.at(i).integer(0, kMaxTokenId)));
  return ids;
}

Surroundings read_template(const JsonNode& processor) {
  Surroundings around;
  bool after_sequence = false;
  const JsonNode single = processor.at("single");
  for (std::size_t i = 0; i < single.size(); ++i) {
    const JsonNode item = single.at(i);
    if (item.has("SpecialToken")) {
      const TokenIds ids = ids_of_special(processor, item);
      TokenIds& side = after_sequence ? around.suffix : around.prefix;
      side.insert(side.end(), ids.begin(), ids.end());
    } else if (item.has("Sequence") && !after_sequence) {
      after_sequence = true;
    } else {
      unsupported(item, "is neither a special token nor the only sequence");
    }
  }
  if (!after_sequence) unsupported(single, "holds no sequence");
  return around;
}

// Each step wraps what the step before gave.
Surroundings read_sequence(const JsonNode& list) {
  Surroundings around;
  for (std::size_t i = 0; i < list.size(); ++i) {
    const Surroundings outer = read_post_processor(list.at(i));
    around.prefix.insert(around.prefix.begin(), outer.prefix.begin(), outer.prefix.end());
    around.suffix.insert(around.suffix.end(), outer.suffix.begin(), outer.suffix.end());
  }
  return around;
}

}  // namespace

Surroundings read_post_processor(const JsonNode& node) {
  if (node.value().is_null()) return {};
  const std::string& type = node.at("type").string();
  if (type == "TemplateProcessing") return read_template(node);
  if (type == "ByteLevel") return {};
  if (type == "Sequence") return read_sequence(node.at("processors"));
  unsupported(node, fmt::format("post-processor '{}' is not implemented", type));
}

}  // namespace calque::text
