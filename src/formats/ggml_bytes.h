#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "calque/core/dtype.h"

// Little-endian fields of a block.
namespace calque::formats {

inline std::uint8_t byte_at(const std::byte* p) { return std::to_integer<std::uint8_t>(*p); }

inline std::uint16_t u16_at(const std::byte* p) {
  std::uint16_t value = 0;
  std::memcpy(&value, p, sizeof(value));
  return value;
}

inline std::uint32_t u32_at(const std::byte* p) {
  std::uint32_t value = 0;
  std::memcpy(&value, p, sizeof(value));
  return value;
}

inline float half_at(const std::byte* p) { return to_float(Half{u16_at(p)}); }

inline void store_half(float value, std::byte* p) {
  const Half half = to_half(value);
  std::memcpy(p, &half.bits, sizeof(half.bits));
}

// Code k (0..31) of a block of 32 nibbles: the first half of the block in the low nibbles.
inline int nibble(const std::byte* qs, int k) {
  return k < 16 ? byte_at(qs + k) & 15 : byte_at(qs + k - 16) >> 4;
}

}  // namespace calque::formats
