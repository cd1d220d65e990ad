#include "calque/io/json.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "calque/core/error.h"
#include "calque/core/names.h"
#include "calque/io/file.h"

namespace calque::io {
namespace {

[[noreturn]] void refuse_text(const std::string& reason) {
  throw Error(ErrorKind::kInput, "E162", reason);
}

// A short excerpt of a value, for error messages.
std::string excerpt(const Json& value) {
  constexpr std::size_t kCharacters = 60;
  std::string text = value.dump(-1, true);
  if (text.size() > kCharacters) text = text.substr(0, kCharacters) + "...";
  return text;
}

// Builds the value from parser events. nlohmann::json's own builder would silently keep the last of
// two equal names and accept any depth of nesting.
class Builder : public nlohmann::json_sax<nlohmann::json> {
 public:
  Json take() { return std::move(root_); }

  bool null() override { return add({}); }
  bool boolean(bool value) override { return add(value); }
  bool number_integer(std::int64_t value) override { return add(value); }
  bool number_unsigned(std::uint64_t value) override { return add(value); }
  bool number_float(double value, const std::string&) override { return add(value); }
  bool string(std::string& value) override { return add(std::move(value)); }
  bool binary(binary_t&) override { return false; }  // JSON text contains no binary values
  bool start_object(std::size_t) override { return open(Json::object()); }
  bool start_array(std::size_t) override { return open(Json::array()); }
  bool end_array() override { return close(); }
  bool key(std::string& name) override {
    open_.back()->append(std::move(name), {});
    return true;
  }
  bool end_object() override {
    check_names(open_.back()->members());
    return close();
  }
  bool parse_error(std::size_t, const std::string&,
                   const nlohmann::detail::exception& error) override {
    refuse_text(fmt::format("not JSON: {}", error.what()));
  }

 private:
  static constexpr std::size_t kMaxDepth = 64;

  static void check_names(const Json::Object& members) {
    std::vector<std::string_view> names;
    for (const Json::Member& member : members) names.push_back(member.name);
    std::sort(names.begin(), names.end());
    const auto twice = std::adjacent_find(names.begin(), names.end());
    if (twice != names.end())
      refuse_text(fmt::format("the JSON name {} is given twice", quote_name(*twice)));
  }

  Json& place(Json value) {
    if (open_.empty()) return root_ = std::move(value);
    Json& parent = *open_.back();
    if (parent.is_object()) return parent.members().back().value = std::move(value);
    parent.push_back(std::move(value));
    return parent.elements().back();
  }
  bool add(Json value) {
    place(std::move(value));
    return true;
  }
  bool open(Json value) {
    if (open_.size() >= kMaxDepth)
      refuse_text(fmt::format("JSON nested deeper than {}", kMaxDepth));
    open_.push_back(&place(std::move(value)));
    return true;
  }
  bool close() {
    open_.pop_back();
    return true;
  }

  Json root_;
  std::vector<Json*> open_;  // an open inner value does not move, because its parent does not grow
};

using Replace = nlohmann::json::error_handler_t;

// Scalars are formatted by nlohmann::json: shortest decimals that read back as the same double.
std::string scalar(const nlohmann::json& value, bool ascii = false) {
  return value.dump(-1, ' ', ascii, Replace::replace);
}

class Printer {
 public:
  Printer(int indent, bool ascii) : indent_(indent), ascii_(ascii) {}

  std::string take() { return std::move(text_); }

  void print(const Json& json, int level) {
    if (json.is_object()) {
      list(json.members(), '{', '}', level, [&](const Json::Member& member) {
        text_ += scalar(member.name, ascii_) + (indent_ < 0 ? ":" : ": ");
        print(member.value, level + 1);
      });
    } else if (json.is_array()) {
      list(json.elements(), '[', ']', level, [&](const Json& one) { print(one, level + 1); });
    } else {
      text_ += printed(json);
    }
  }

 private:
  std::string printed(const Json& json) const {
    if (json.is_string()) return scalar(json.string(), ascii_);
    if (json.is_bool()) return json.boolean() ? "true" : "false";
    if (json.is_null()) return "null";
    if (!json.is_integer()) return scalar(json.number());
    return json.number() < 0 ? std::to_string(json.integer()) : std::to_string(json.natural());
  }

  template <typename List, typename Print>
  void list(const List& items, char open, char close, int level, const Print& print_one) {
    text_ += open;
    for (std::size_t i = 0; i < items.size(); ++i) {
      if (i > 0) text_ += ',';
      new_line(level + 1);
      print_one(items[i]);
    }
    if (!items.empty()) new_line(level);
    text_ += close;
  }

  void new_line(int level) {
    if (indent_ >= 0) text_ += '\n' + std::string(static_cast<std::size_t>(indent_ * level), ' ');
  }

  int indent_;
  bool ascii_;
  std::string text_;
};

template <typename T, typename Value>
T& held(Value& value, const Json& json, const char* wanted) {
  auto* found = std::get_if<std::remove_const_t<T>>(&value);
  if (found == nullptr) refuse_text(fmt::format("is {}, not {}", json.type_name(), wanted));
  return *found;
}

}  // namespace

Json::Json() : value_(nullptr) {}
Json::Json(std::nullptr_t) : value_(nullptr) {}
Json::Json(bool value) : value_(value) {}
Json::Json(double value) : value_(value) {}
Json::Json(const char* text) : value_(std::string(text)) {}
Json::Json(std::string_view text) : value_(std::string(text)) {}
Json::Json(std::string text) : value_(std::move(text)) {}
Json::Json(std::initializer_list<Member> members) : value_(Object(members)) {}
Json::Json(const Json& other) = default;
Json::Json(Json&& other) noexcept = default;
Json& Json::operator=(const Json& other) = default;
Json& Json::operator=(Json&& other) noexcept = default;
Json::~Json() = default;

Json Json::array(std::initializer_list<Json> elements) {
  Json json;
  json.value_ = Array(elements);
  return json;
}

Json Json::object(std::initializer_list<Member> members) { return Json(members); }

void Json::set(std::int64_t value) { value_ = value; }

void Json::set(std::uint64_t value) {
  if (value <= INT64_MAX)
    value_ = static_cast<std::int64_t>(value);
  else
    value_ = value;
}

bool Json::is_null() const { return std::holds_alternative<std::nullptr_t>(value_); }
bool Json::is_bool() const { return std::holds_alternative<bool>(value_); }
bool Json::is_integer() const {
  return std::holds_alternative<std::int64_t>(value_) ||
         std::holds_alternative<std::uint64_t>(value_);
}
bool Json::is_number() const { return is_integer() || std::holds_alternative<double>(value_); }
bool Json::is_string() const { return std::holds_alternative<std::string>(value_); }
bool Json::is_array() const { return std::holds_alternative<Array>(value_); }
bool Json::is_object() const { return std::holds_alternative<Object>(value_); }

const char* Json::type_name() const {
  constexpr const char* kNames[] = {"null",   "boolean", "number", "number",
                                    "number", "string",  "array",  "object"};
  return kNames[value_.index()];
}

std::size_t Json::size() const {
  if (is_array()) return elements().size();
  return is_object() ? members().size() : 0;
}

const Json::Array& Json::elements() const { return held<const Array>(value_, *this, "an array"); }
Json::Array& Json::elements() { return held<Array>(value_, *this, "an array"); }
const Json::Object& Json::members() const { return held<const Object>(value_, *this, "an object"); }
Json::Object& Json::members() { return held<Object>(value_, *this, "an object"); }

const Json* Json::find(std::string_view name) const {
  if (!is_object()) return nullptr;
  for (const Member& member : members())
    if (member.name == name) return &member.value;
  return nullptr;
}

const Json& Json::at(std::string_view name) const {
  const Json* found = find(name);
  if (found == nullptr) refuse_text(fmt::format("has no '{}'", name));
  return *found;
}

const Json& Json::at(std::size_t index) const {
  if (index >= elements().size()) refuse_text(fmt::format("has no element {}", index));
  return elements()[index];
}

Json& Json::operator[](std::string_view name) {
  if (is_null()) value_ = Object();
  for (Member& member : members())
    if (member.name == name) return member.value;
  append(std::string(name), {});
  return members().back().value;
}

void Json::push_back(Json element) {
  if (is_null()) value_ = Array();
  elements().push_back(std::move(element));
}

void Json::erase(std::string_view name) {
  std::erase_if(members(), [&](const Member& member) { return member.name == name; });
}

void Json::append(std::string name, Json value) {
  members().push_back({std::move(name), std::move(value)});
}

bool Json::boolean() const { return held<const bool>(value_, *this, "true or false"); }

double Json::number() const {
  if (const auto* whole = std::get_if<std::int64_t>(&value_)) return static_cast<double>(*whole);
  if (const auto* large = std::get_if<std::uint64_t>(&value_)) return static_cast<double>(*large);
  return held<const double>(value_, *this, "a number");
}

std::int64_t Json::integer() const {
  if (const auto* whole = std::get_if<std::int64_t>(&value_)) return *whole;
  refuse_integer();
}

std::uint64_t Json::natural() const {
  if (const auto* large = std::get_if<std::uint64_t>(&value_)) return *large;
  const std::int64_t whole = integer();
  if (whole < 0) refuse_integer();
  return static_cast<std::uint64_t>(whole);
}

void Json::refuse_integer() const {
  refuse_text(fmt::format("is {}, not an integer that fits", excerpt(*this)));
}

const std::string& Json::string() const {
  return held<const std::string>(value_, *this, "a string");
}

std::string Json::dump(int indent, bool ascii) const {
  Printer printer(indent, ascii);
  printer.print(*this, 0);
  return printer.take();
}

bool Json::operator==(const Json& other) const {
  if (is_number() && other.is_number() && value_.index() != other.value_.index())
    return number() == other.number();
  return value_ == other.value_;
}

Json parse_json(std::string_view text) {
  Builder builder;
  nlohmann::json::sax_parse(text, &builder);
  return builder.take();
}

std::optional<Json> parse_json_if_valid(std::string_view text) {
  try {
    return parse_json(text);
  } catch (const Error&) {
    return std::nullopt;
  }
}

Json read_json(const std::filesystem::path& path) {
  const std::string text = read_file(path);
  return with_context(path.string(), [&text] { return parse_json(text); });
}

Json read_json_if_present(const std::filesystem::path& path) {
  refuse_placeholder(path);
  if (!std::filesystem::exists(path)) return Json::object();
  return read_json(path);
}

std::string json_string(std::string_view text) { return scalar(text); }

std::string json_library_version() {
  return fmt::format("{}.{}.{}", NLOHMANN_JSON_VERSION_MAJOR, NLOHMANN_JSON_VERSION_MINOR,
                     NLOHMANN_JSON_VERSION_PATCH);
}

std::string JsonNode::place() const {
  return path_.empty() ? file_ : fmt::format("{}: {}", file_, path_);
}

void JsonNode::refuse(const std::string& reason) const {
  throw Error(ErrorKind::kInput, code_, fmt::format("{}: {}", place(), reason));
}

void JsonNode::refuse(std::string_view key, const std::string& reason) const {
  throw Error(ErrorKind::kInput, code_, fmt::format("{}: '{}' {}", place(), key, reason));
}

std::size_t JsonNode::size() const {
  if (!value_->is_array() && !value_->is_object())
    refuse(fmt::format("is {}, not a list", value_->type_name()));
  return value_->size();
}

const std::string& JsonNode::string() const {
  if (!value_->is_string()) refuse(fmt::format("is {}, not a string", value_->type_name()));
  return value_->string();
}

bool JsonNode::boolean() const {
  if (!value_->is_bool()) refuse(fmt::format("is {}, not true or false", value_->type_name()));
  return value_->boolean();
}

std::int64_t JsonNode::integer(std::int64_t low, std::int64_t high) const {
  if (!value_->is_integer()) refuse(fmt::format("is {}, not an integer", excerpt(*value_)));
  const bool huge = value_->number() > 0 && value_->natural() > INT64_MAX;
  if (huge || value_->integer() < low || value_->integer() > high)
    refuse(fmt::format("is {}, outside [{}, {}]", excerpt(*value_), low, high));
  return value_->integer();
}

const JsonNode& JsonNode::expect_object() const {
  if (!value_->is_object()) refuse(fmt::format("expected an object, found {}", excerpt(*value_)));
  return *this;
}

JsonNode JsonNode::named(std::string_view key, const Json& value) const {
  JsonNode member(value, file_, code_);
  member.path_ = path_.empty() ? std::string(key) : path_ + '.' + std::string(key);
  return member;
}

JsonNode JsonNode::at(std::string_view key) const {
  if (!value_->is_object()) refuse(fmt::format("is {}, not an object", value_->type_name()));
  const Json* found = value_->find(key);
  if (found == nullptr) refuse(fmt::format("has no '{}'", key));
  return named(key, *found);
}

JsonNode JsonNode::at(std::size_t index) const {
  if (index >= size()) refuse(fmt::format("has no element {}", index));
  if (!value_->is_array()) refuse(fmt::format("is {}, not an array", value_->type_name()));
  JsonNode element(value_->elements()[index], file_, code_);
  element.path_ = fmt::format("{}[{}]", path_, index);
  return element;
}

bool JsonNode::has(std::string_view key) const {
  const Json* found = value_->find(key);
  return found != nullptr && !found->is_null();
}

bool JsonNode::is_null(std::string_view key) const {
  const Json* found = value_->find(key);
  return found != nullptr && found->is_null();
}

const Json& JsonNode::value(std::string_view key) const {
  if (!has(key)) refuse(key, "is missing");
  return *value_->find(key);
}

std::int64_t JsonNode::size(std::string_view key, std::int64_t largest) const {
  const Json& number = value(key);
  const bool whole = number.is_integer() && number.number() >= 1 &&
                     number.natural() <= static_cast<std::uint64_t>(largest);
  if (!whole)
    refuse(key,
           fmt::format("must be a whole number from 1 to {}, found {}", largest, excerpt(number)));
  return number.integer();
}

std::int64_t JsonNode::size_or(std::string_view key, std::int64_t largest,
                               std::int64_t absent) const {
  return has(key) ? size(key, largest) : absent;
}

double JsonNode::positive(std::string_view key) const {
  const Json& number = value(key);
  if (!number.is_number() || !std::isfinite(number.number()) || number.number() <= 0)
    refuse(key, fmt::format("must be a number above zero, found {}", excerpt(number)));
  return number.number();
}

double JsonNode::positive_or(std::string_view key, double absent) const {
  return has(key) ? positive(key) : absent;
}

bool JsonNode::flag_or(std::string_view key, bool absent) const {
  if (!has(key)) return absent;
  if (!value(key).is_bool())
    refuse(key, fmt::format("must be true or false, found {}", excerpt(value(key))));
  return value(key).boolean();
}

std::string JsonNode::text_or(std::string_view key, std::string_view absent) const {
  if (!has(key)) return std::string(absent);
  if (!value(key).is_string())
    refuse(key, fmt::format("must be a string, found {}", excerpt(value(key))));
  return value(key).string();
}

JsonNode JsonNode::object(std::string_view key) const {
  value(key);  // throws if the member is missing
  JsonNode member = at(key);
  member.expect_object();
  return member;
}

}  // namespace calque::io
