#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <string_view>

namespace calque::io {

// Reads little-endian values from the front of a file. Every read is checked against the remaining
// bytes before anything is allocated; the Error(kInput) says what was being read.
class GgufCursor {
 public:
  explicit GgufCursor(std::span<const std::byte> bytes) : bytes_(bytes) {}

  std::uint64_t position() const { return position_; }
  std::uint64_t left() const { return bytes_.size() - position_; }

  template <typename T>
  T number(std::string_view what) {
    require(sizeof(T), what);
    T value;
    std::memcpy(&value, bytes_.data() + position_, sizeof(T));
    position_ += sizeof(T);
    return value;
  }
  bool boolean(std::string_view what) { return number<std::uint8_t>(what) != 0; }
  std::string string(std::string_view what);

  // Refuses `count` records of at least `bytes_each` bytes if they cannot fit in the remaining
  // bytes.
  void check_count(std::uint64_t count, std::uint64_t bytes_each, std::string_view what) const;

 private:
  void require(std::uint64_t bytes, std::string_view what) const;

  std::span<const std::byte> bytes_;
  std::uint64_t position_ = 0;
};

}  // namespace calque::io
