#pragma once

#include <cstdint>
#include <cstring>

#include "calque/core/dtype.h"
#include "ggml/types/codec.h"

namespace calque::ggml::inline CALQUE_ISA {

// `value` after a trip through binary16.
inline float half_value(float value) { return to_float(to_half(value)); }

inline void store_half(float value, std::byte* bytes) {
  const Half half = to_half(value);
  std::memcpy(bytes, &half.bits, sizeof(half.bits));
}

inline float load_half(const std::byte* bytes) {
  Half half;
  std::memcpy(&half.bits, bytes, sizeof(half.bits));
  return to_float(half);
}

inline int byte_at(const std::byte* bytes) { return static_cast<int>(*bytes); }
inline void set_byte(std::byte* bytes, int value) { *bytes = static_cast<std::byte>(value); }

// 32 four-bit codes: the first half in the low nibbles, the second in the high ones.
inline void store_nibbles(const std::uint8_t* codes, std::byte* qs) {
  for (int k = 0; k < 16; ++k) qs[k] = static_cast<std::byte>((codes[k] & 15) | codes[k + 16] << 4);
}

inline void load_nibbles(const std::byte* qs, std::uint8_t* codes) {
  for (int k = 0; k < 16; ++k) {
    codes[k] = static_cast<std::uint8_t>(byte_at(qs + k) & 15);
    codes[k + 16] = static_cast<std::uint8_t>(byte_at(qs + k) >> 4);
  }
}

// The low two bits of 256 codes in 64 bytes: in each half of 128, byte l holds elements l, l + 32,
// l + 64, l + 96 from the low bits up.
inline void store_two_bits(const std::uint8_t* codes, std::byte* qs) {
  for (int half = 0; half < 2; ++half)
    for (int l = 0; l < 32; ++l) {
      const std::uint8_t* c = codes + 128 * half + l;
      const int packed = (c[0] & 3) | (c[32] & 3) << 2 | (c[64] & 3) << 4 | (c[96] & 3) << 6;
      set_byte(qs + 32 * half + l, packed);
    }
}

inline void load_two_bits(const std::byte* qs, std::uint8_t* codes) {
  for (int half = 0; half < 2; ++half)
    for (int part = 0; part < 4; ++part)
      for (int l = 0; l < 32; ++l)
        codes[128 * half + 32 * part + l] =
            static_cast<std::uint8_t>(byte_at(qs + 32 * half + l) >> (2 * part) & 3);
}

}  // namespace calque::ggml::inline CALQUE_ISA
