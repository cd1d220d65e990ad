#include "model/json_object.h"

#include <fmt/format.h>

#include <cmath>
#include <utility>

#include "calque/core/error.h"

namespace calque::model {
namespace {

constexpr std::size_t kQuotedCharacters = 60;

std::string quoted(const nlohmann::json& value) {
  std::string text = value.dump(-1, ' ', true, nlohmann::json::error_handler_t::replace);
  if (text.size() > kQuotedCharacters) text = text.substr(0, kQuotedCharacters) + "...";
  return text;
}

}  // namespace

JsonObject::JsonObject(const nlohmann::json& object, std::string where)
    : object_(object), where_(std::move(where)) {
  if (!object_.is_object())
    throw Error(ErrorKind::kInput, "E162",
                fmt::format("{}: expected an object, found {}", where_, quoted(object_)));
}

void JsonObject::refuse(const std::string& key, const std::string& what) const {
  throw Error(ErrorKind::kInput, "E162", fmt::format("{}: '{}' {}", where_, key, what));
}

bool JsonObject::has(const std::string& key) const {
  const auto found = object_.find(key);
  return found != object_.end() && !found->is_null();
}

bool JsonObject::is_null(const std::string& key) const {
  const auto found = object_.find(key);
  return found != object_.end() && found->is_null();
}

const nlohmann::json& JsonObject::value(const std::string& key) const {
  if (!has(key)) refuse(key, "is missing; is this the config.json of a language model?");
  return *object_.find(key);
}

Index JsonObject::size(const std::string& key, Index largest) const {
  const nlohmann::json& number = value(key);
  const bool in_range = number.is_number_integer() &&
                        !(number.is_number_unsigned() &&
                          number.get<std::uint64_t>() > static_cast<std::uint64_t>(largest));
  if (!in_range || number.get<std::int64_t>() < 1 || number.get<std::int64_t>() > largest)
    refuse(key,
           fmt::format("must be a whole number from 1 to {}, found {}", largest, quoted(number)));
  return number.get<std::int64_t>();
}

Index JsonObject::size_or(const std::string& key, Index largest, Index absent) const {
  return has(key) ? size(key, largest) : absent;
}

double JsonObject::positive(const std::string& key) const {
  const nlohmann::json& number = value(key);
  if (!number.is_number() || !std::isfinite(number.get<double>()) || number.get<double>() <= 0)
    refuse(key, fmt::format("must be a number above zero, found {}", quoted(number)));
  return number.get<double>();
}

double JsonObject::positive_or(const std::string& key, double absent) const {
  return has(key) ? positive(key) : absent;
}

bool JsonObject::flag_or(const std::string& key, bool absent) const {
  if (!has(key)) return absent;
  if (!value(key).is_boolean())
    refuse(key, fmt::format("must be true or false, found {}", quoted(value(key))));
  return value(key).get<bool>();
}

std::string JsonObject::text_or(const std::string& key, const std::string& absent) const {
  if (!has(key)) return absent;
  if (!value(key).is_string())
    refuse(key, fmt::format("must be a string, found {}", quoted(value(key))));
  return value(key).get<std::string>();
}

std::optional<std::int64_t> JsonObject::first_id(const std::string& key) const {
  if (!has(key)) return std::nullopt;
  const nlohmann::json* id = &value(key);
  if (id->is_array() && !id->empty()) id = &id->front();
  if (!id->is_number_integer())
    refuse(key, fmt::format("must be a token id or a list of them, found {}", quoted(value(key))));
  return id->get<std::int64_t>();
}

JsonObject JsonObject::object(const std::string& key) const {
  return {value(key), where_ + ": " + key};
}

}  // namespace calque::model
