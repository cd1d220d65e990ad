#include "text/json_node.h"

#include <fmt/format.h>

#include "calque/core/error.h"
#include "calque/core/names.h"
#include "calque/io/file.h"
#include "io/strict_json.h"

namespace calque::text {

bool JsonNode::has(std::string_view key) const {
  if (!value_->is_object()) return false;
  const auto found = value_->find(key);
  return found != value_->end() && !found->is_null();
}

JsonNode JsonNode::at(std::string_view key) const {
  if (!value_->is_object()) refuse(fmt::format("is {}, not an object", value_->type_name()));
  const auto found = value_->find(key);
  if (found == value_->end()) refuse(fmt::format("has no '{}'", key));
  JsonNode member(*found, file_);
  member.path_ = path_.empty() ? std::string(key) : path_ + '.' + std::string(key);
  return member;
}

JsonNode JsonNode::at(std::size_t index) const {
  if (index >= size()) refuse(fmt::format("has no element {}", index));
  if (!value_->is_array()) refuse(fmt::format("is {}, not an array", value_->type_name()));
  JsonNode element((*value_)[index], file_);
  element.path_ = fmt::format("{}[{}]", path_, index);
  return element;
}

std::size_t JsonNode::size() const {
  if (!value_->is_structured()) refuse(fmt::format("is {}, not a list", value_->type_name()));
  return value_->size();
}

const std::string& JsonNode::string() const {
  if (!value_->is_string()) refuse(fmt::format("is {}, not a string", value_->type_name()));
  return value_->get_ref<const std::string&>();
}

bool JsonNode::boolean() const {
  if (!value_->is_boolean()) refuse(fmt::format("is {}, not true or false", value_->type_name()));
  return value_->get<bool>();
}

std::int64_t JsonNode::integer(std::int64_t low, std::int64_t high) const {
  if (!value_->is_number_integer()) refuse(fmt::format("is {}, not an integer", value_->dump()));
  const bool huge = value_->is_number_unsigned() && value_->get<std::uint64_t>() > INT64_MAX;
  const std::int64_t number = huge ? INT64_MAX : value_->get<std::int64_t>();
  if (number < low || number > high)
    refuse(fmt::format("is {}, outside [{}, {}]", value_->dump(), low, high));
  return number;
}

bool JsonNode::boolean_or(std::string_view key, bool otherwise) const {
  return has(key) ? at(key).boolean() : otherwise;
}

std::string JsonNode::string_or(std::string_view key, const std::string& otherwise) const {
  return has(key) ? at(key).string() : otherwise;
}

std::string JsonNode::place() const {
  return path_.empty() ? file_ : fmt::format("{}: {}", file_, path_);
}

void JsonNode::refuse(const std::string& reason) const {
  throw Error(ErrorKind::kInput, "", fmt::format("{}: {}", place(), reason));
}

void JsonNode::unsupported(const std::string& reason) const {
  throw Error(
      ErrorKind::kInput, "E211",
      fmt::format("{}: {}. Not guessing: give token ids made with the model's own tokenizer "
                  "(.safetensors or .npy) in place of text.",
                  place(), reason));
}

nlohmann::json read_json(const std::filesystem::path& path) {
  const std::string text = io::read_file(path);
  return with_context(path.string(), [&text] { return io::parse_strict_json(text); });
}

nlohmann::json read_json_if_present(const std::filesystem::path& path) {
  if (!std::filesystem::exists(path)) return nlohmann::json::object();
  return read_json(path);
}

}  // namespace calque::text
