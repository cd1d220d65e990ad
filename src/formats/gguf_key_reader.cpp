#include "formats/gguf_key_reader.h"

#include <fmt/format.h>

#include <cmath>

#include "calque/core/error.h"

namespace calque::formats {

void refuse_gguf(const io::GgufFile& file, const std::string& reason) {
  throw Error(ErrorKind::kInput, "", file.path().string() + ": " + reason);
}

std::optional<Index> GgufKeyReader::find_count(const std::string& key) const {
  const std::optional<std::int64_t> value = file_.integer(prefix_ + key);
  if (value && (*value < 1 || *value > kMostGgufSize))
    refuse_gguf(file_, fmt::format("key '{}{}' is {}, expected 1 to {}", prefix_, key, *value,
                                   kMostGgufSize));
  return value;
}

Index GgufKeyReader::count(const std::string& key) const {
  const std::optional<Index> value = find_count(key);
  if (!value) refuse_gguf(file_, fmt::format("key '{}{}' is missing", prefix_, key));
  return *value;
}

Index GgufKeyReader::count_or_zero(const std::string& key) const {
  if (file_.integer(prefix_ + key).value_or(0) == 0) return 0;
  return count(key);
}

std::optional<double> GgufKeyReader::find_real(const std::string& key) const {
  const std::optional<double> value = file_.real(prefix_ + key);
  if (!value) return std::nullopt;
  if (!std::isfinite(*value) || *value <= 0)
    refuse_gguf(file_, fmt::format("key '{}{}' is {}", prefix_, key, *value));
  const auto stored = static_cast<float>(*value);
  return static_cast<double>(stored) == *value ? std::stod(fmt::format("{}", stored)) : *value;
}

}  // namespace calque::formats
