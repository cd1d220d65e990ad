// Blocks of 32 with one binary16 scale: Q4_0, Q4_1, Q5_0, Q5_1, Q8_0 (formats_gguf.md section 2.1).
#include "formats/ggml_blocks.h"
#include "formats/ggml_bytes.h"

namespace calque::formats {
namespace {

constexpr int kBlock = 32;

void unpack_nibbles(const std::byte* qs, std::uint8_t* codes) {
  for (int k = 0; k < kBlock; ++k) codes[k] = static_cast<std::uint8_t>(nibble(qs, k));
}

void pack_nibbles(const std::uint8_t* codes, std::byte* qs) {
  for (int k = 0; k < kBlock / 2; ++k)
    qs[k] = static_cast<std::byte>((codes[k] & 15) | (codes[k + kBlock / 2] & 15) << 4);
}

// Q5: bit k of the 32-bit word belongs to element k.
void unpack_fifth_bits(const std::byte* qh, std::uint8_t* codes) {
  const std::uint32_t bits = u32_at(qh);
  for (int k = 0; k < kBlock; ++k) codes[k] |= static_cast<std::uint8_t>((bits >> k & 1) << 4);
}

void pack_fifth_bits(const std::uint8_t* codes, std::byte* qh) {
  std::uint32_t bits = 0;
  for (int k = 0; k < kBlock; ++k) bits |= std::uint32_t{codes[k]} >> 4 << k;
  std::memcpy(qh, &bits, sizeof(bits));
}

// Scale only: the middle code decodes to 0.
void unpack_scale(const std::byte* block, int middle, BlockParts parts) {
  *parts.scales = half_at(block);
  *parts.offsets = -*parts.scales * static_cast<float>(middle);
}

void unpack_scale_and_minimum(const std::byte* block, BlockParts parts) {
  *parts.scales = half_at(block);
  *parts.offsets = half_at(block + 2);
}

void pack_scale_and_minimum(ConstBlockParts parts, std::byte* block) {
  store_half(*parts.scales, block);
  store_half(*parts.offsets, block + 2);
}

void unpack_q4_0(const std::byte* block, BlockParts parts) {
  unpack_scale(block, 8, parts);
  unpack_nibbles(block + 2, parts.codes);
}
void pack_q4_0(ConstBlockParts parts, std::byte* block) {
  store_half(*parts.scales, block);
  pack_nibbles(parts.codes, block + 2);
}

void unpack_q4_1(const std::byte* block, BlockParts parts) {
  unpack_scale_and_minimum(block, parts);
  unpack_nibbles(block + 4, parts.codes);
}
void pack_q4_1(ConstBlockParts parts, std::byte* block) {
  pack_scale_and_minimum(parts, block);
  pack_nibbles(parts.codes, block + 4);
}

void unpack_q5_0(const std::byte* block, BlockParts parts) {
  unpack_scale(block, 16, parts);
  unpack_nibbles(block + 6, parts.codes);
  unpack_fifth_bits(block + 2, parts.codes);
}
void pack_q5_0(ConstBlockParts parts, std::byte* block) {
  store_half(*parts.scales, block);
  pack_fifth_bits(parts.codes, block + 2);
  pack_nibbles(parts.codes, block + 6);
}

void unpack_q5_1(const std::byte* block, BlockParts parts) {
  unpack_scale_and_minimum(block, parts);
  unpack_nibbles(block + 8, parts.codes);
  unpack_fifth_bits(block + 4, parts.codes);
}
void pack_q5_1(ConstBlockParts parts, std::byte* block) {
  pack_scale_and_minimum(parts, block);
  pack_fifth_bits(parts.codes, block + 4);
  pack_nibbles(parts.codes, block + 8);
}

// Signed bytes -128..127 are codes 0..255: the sign bit flips.
void unpack_q8_0(const std::byte* block, BlockParts parts) {
  unpack_scale(block, 128, parts);
  for (int k = 0; k < kBlock; ++k)
    parts.codes[k] = static_cast<std::uint8_t>(byte_at(block + 2 + k) ^ 0x80);
}
void pack_q8_0(ConstBlockParts parts, std::byte* block) {
  store_half(*parts.scales, block);
  for (int k = 0; k < kBlock; ++k) block[2 + k] = static_cast<std::byte>(parts.codes[k] ^ 0x80);
}

quant::Grid legacy_grid(int bits, OffsetKind kind) {
  quant::Grid grid;
  grid.bits = bits;
  grid.group_size = kBlock;
  grid.offset_kind = kind;
  grid.precision = ScalePrecision::kF16;
  return grid;
}

}  // namespace

const BlockCodec* find_block_codec(io::GgmlType type) {
  using enum io::GgmlType;
  using enum OffsetKind;
  static const BlockCodec table[] = {
      {kQ4_0, legacy_grid(4, kMiddleCode), unpack_q4_0, pack_q4_0},
      {kQ4_1, legacy_grid(4, kMinimum), unpack_q4_1, pack_q4_1},
      {kQ5_0, legacy_grid(5, kMiddleCode), unpack_q5_0, pack_q5_0},
      {kQ5_1, legacy_grid(5, kMinimum), unpack_q5_1, pack_q5_1},
      {kQ8_0, legacy_grid(8, kMiddleCode), unpack_q8_0, pack_q8_0},
  };
  for (const BlockCodec& codec : table)
    if (codec.type == type) return &codec;
  return nullptr;
}

}  // namespace calque::formats
