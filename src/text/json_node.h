#pragma once

#include <cstdint>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

namespace calque::text {

// A value inside a JSON file together with its place there, so that a refusal can say which one it
// is about: "tokenizer.json: pre_tokenizer.pretokenizers[0].pattern: ...". Borrows the document.
class JsonNode {
 public:
  JsonNode(const nlohmann::json& value, std::string file)
      : value_(&value), file_(std::move(file)) {}

  const nlohmann::json& value() const { return *value_; }
  const std::string& path() const { return path_; }
  bool has(std::string_view key) const;  // an object with this key, and not null there

  // A member or an element; a missing one is refused.
  JsonNode at(std::string_view key) const;
  JsonNode at(std::size_t index) const;
  std::size_t size() const;  // of an array or an object; anything else is refused

  // The value as this type; another one is refused.
  const std::string& string() const;
  bool boolean() const;
  std::int64_t integer(std::int64_t low, std::int64_t high) const;
  bool boolean_or(std::string_view key, bool otherwise) const;
  std::string string_or(std::string_view key, const std::string& otherwise) const;

  // Error(kInput): this part of the file is damaged.
  [[noreturn]] void refuse(const std::string& reason) const;
  // Error(kInput, "E211"): this part of the tokenizer is not implemented here.
  [[noreturn]] void unsupported(const std::string& reason) const;

 private:
  std::string place() const;

  const nlohmann::json* value_;
  std::string file_;
  std::string path_;
};

// A JSON file with its errors under its name; duplicate names and deep nesting are refused.
nlohmann::json read_json(const std::filesystem::path& path);
// As read_json; an empty object if there is no such file.
nlohmann::json read_json_if_present(const std::filesystem::path& path);

}  // namespace calque::text
