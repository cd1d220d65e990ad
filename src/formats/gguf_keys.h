#pragma once

#include <algorithm>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "calque/formats/writer.h"
#include "calque/io/gguf.h"

namespace calque::formats {

// Collects the keys of a file. Counts are u32 and reals f32, because loaders insist on it.
class GgufKeys {
 public:
  using Scalar = io::GgufValue::Scalar;
  using Array = io::GgufValue::Array;

  void text(std::string key, std::string value) { add(std::move(key), Scalar(std::move(value))); }
  void count(std::string key, std::int64_t value) {
    add(std::move(key), Scalar(static_cast<std::uint32_t>(value)));
  }
  void real(std::string key, double value) {
    add(std::move(key), Scalar(static_cast<float>(value)));
  }
  void flag(std::string key, bool value) { add(std::move(key), Scalar(value)); }
  template <typename T>
  void list(std::string key, std::vector<T> values) {
    add(std::move(key), Array(std::move(values)));
  }
  void append(const io::GgufMetadata& keys) { keys_.insert(keys_.end(), keys.begin(), keys.end()); }
  bool has(std::string_view key) const {
    return std::any_of(keys_.begin(), keys_.end(),
                       [key](const auto& entry) { return entry.first == key; });
  }
  io::GgufMetadata take() { return std::move(keys_); }

 private:
  void add(std::string key, io::GgufValue value) {
    keys_.emplace_back(std::move(key), std::move(value));
  }
  io::GgufMetadata keys_;
};

// The keys that begin with the architecture's name: sizes, RoPE, experts, windows
// (formats_gguf.md sections 5.2 and 5.5).
void add_architecture_keys(const WriterInputs& inputs, GgufKeys& keys);

}  // namespace calque::formats
