#pragma once

#include <nlohmann/json.hpp>
#include <optional>
#include <string>

#include "calque/core/matrix.h"

namespace calque::model {

// Typed access to the keys of a JSON object; `where` and the key stand in every message. A key with
// the value null counts as absent, as transformers writes it. All errors are Error(kInput, "E162").
class JsonObject {
 public:
  JsonObject(const nlohmann::json& object, std::string where);

  bool has(const std::string& key) const;
  bool is_null(const std::string& key) const;  // there, with the value null
  // A whole number in [1, largest].
  Index size(const std::string& key, Index largest) const;
  Index size_or(const std::string& key, Index largest, Index absent) const;
  // Finite and above zero.
  double positive(const std::string& key) const;
  double positive_or(const std::string& key, double absent) const;
  bool flag_or(const std::string& key, bool absent) const;
  std::string text_or(const std::string& key, const std::string& absent) const;
  // A number, or the first of a list of numbers (eos_token_id comes both ways).
  std::optional<std::int64_t> first_id(const std::string& key) const;
  JsonObject object(const std::string& key) const;
  const nlohmann::json& value(const std::string& key) const;

  [[noreturn]] void refuse(const std::string& key, const std::string& what) const;

 private:
  const nlohmann::json& object_;
  std::string where_;
};

}  // namespace calque::model
