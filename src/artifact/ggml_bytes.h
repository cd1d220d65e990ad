#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "calque/core/dtype.h"
#include "calque/quant/grid.h"

// Little-endian fields of a block, and the codec tables of the two families of types.
namespace calque::artifact {

struct BlockCodec;

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

inline quant::Grid block_grid(int bits, Index group_size, OffsetKind kind,
                              ScalePrecision precision) {
  quant::Grid grid;
  grid.bits = bits;
  grid.group_size = group_size;
  grid.offset_kind = kind;
  grid.precision = precision;
  return grid;
}

const BlockCodec* find_legacy_codec(std::uint32_t type);
const BlockCodec* find_k_codec(std::uint32_t type);

// IQ4_NL, IQ4_XS: values from a codebook. Null for another type.
using DecodeBlock = void (*)(const std::byte* block, float* values);
DecodeBlock find_codebook_decoder(std::uint32_t type);

}  // namespace calque::artifact
