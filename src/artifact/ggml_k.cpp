// Super-blocks of 256, read only: Q2_K ... Q6_K as grids whose scales are the product of a binary16
// number and a small integer (exact in fp32), and IQ4_NL, IQ4_XS as codebook values
// (formats_gguf.md sections 2.2 - 2.5).
#include "artifact/ggml_blocks.h"
#include "artifact/ggml_bytes.h"

namespace calque::artifact {
namespace {

constexpr int kSuper = 256;

// The two-bit plane that Q2_K and Q3_K share: two halves of 128; in each, byte l holds elements l,
// l+32, l+64, l+96 from low to high pairs of bits.
int two_bits(const std::byte* qs, int i) {
  return byte_at(qs + 32 * (i / 128) + i % 32) >> (2 * ((i % 128) / 32)) & 3;
}

struct ScaleAndMinimum {
  int scale;
  int minimum;
};

// Six-bit scales and minima of Q4_K and Q5_K, group j of 8, in 12 bytes.
ScaleAndMinimum six_bit_pair(const std::byte* s, int j) {
  if (j < 4) return {byte_at(s + j) & 63, byte_at(s + j + 4) & 63};
  return {(byte_at(s + j + 4) & 15) | (byte_at(s + j - 4) >> 6) << 4,
          (byte_at(s + j + 4) >> 4) | (byte_at(s + j) >> 6) << 4};
}

void set_affine(BlockParts parts, int group, float d, int scale, float dmin, int minimum) {
  parts.scales[group] = d * static_cast<float>(scale);
  parts.offsets[group] = -(dmin * static_cast<float>(minimum));
}

void set_symmetric(BlockParts parts, int group, float d, int scale, int middle) {
  parts.scales[group] = d * static_cast<float>(scale);
  parts.offsets[group] = -parts.scales[group] * static_cast<float>(middle);
}

void unpack_q2_k(const std::byte* block, BlockParts parts) {
  const float d = half_at(block + 80);
  const float dmin = half_at(block + 82);
  for (int j = 0; j < kSuper / 16; ++j)
    set_affine(parts, j, d, byte_at(block + j) & 15, dmin, byte_at(block + j) >> 4);
  for (int i = 0; i < kSuper; ++i)
    parts.codes[i] = static_cast<std::uint8_t>(two_bits(block + 16, i));
}

void unpack_q3_k(const std::byte* block, BlockParts parts) {
  const std::byte* scales = block + 96;
  const float d = half_at(block + 108);
  for (int j = 0; j < kSuper / 16; ++j) {
    const int low = j < 8 ? byte_at(scales + j) & 15 : byte_at(scales + j - 8) >> 4;
    const int high = byte_at(scales + 8 + j % 4) >> (2 * (j / 4)) & 3;
    set_symmetric(parts, j, d, (low | high << 4) - 32, 4);
  }
  // A set bit in the mask means that 4 is not subtracted, so it is bit 2 of the code.
  for (int i = 0; i < kSuper; ++i) {
    const int high = byte_at(block + i % 32) >> (i / 32) & 1;
    parts.codes[i] = static_cast<std::uint8_t>(two_bits(block + 32, i) | high << 2);
  }
}

void unpack_six_bit_pairs(const std::byte* block, BlockParts parts) {
  const float d = half_at(block);
  const float dmin = half_at(block + 2);
  for (int j = 0; j < kSuper / 32; ++j) {
    const ScaleAndMinimum pair = six_bit_pair(block + 4, j);
    set_affine(parts, j, d, pair.scale, dmin, pair.minimum);
  }
}

// Low nibbles: even groups; high nibbles: odd groups.
int paired_nibble(const std::byte* qs, int i) {
  return byte_at(qs + 32 * (i / 64) + i % 32) >> (4 * (i / 32 % 2)) & 15;
}

void unpack_q4_k(const std::byte* block, BlockParts parts) {
  unpack_six_bit_pairs(block, parts);
  for (int i = 0; i < kSuper; ++i)
    parts.codes[i] = static_cast<std::uint8_t>(paired_nibble(block + 16, i));
}

void unpack_q5_k(const std::byte* block, BlockParts parts) {
  unpack_six_bit_pairs(block, parts);
  for (int i = 0; i < kSuper; ++i) {
    const int fifth = byte_at(block + 16 + i % 32) >> (i / 32) & 1;
    parts.codes[i] = static_cast<std::uint8_t>(paired_nibble(block + 48, i) | fifth << 4);
  }
}

void unpack_q6_k(const std::byte* block, BlockParts parts) {
  const float d = half_at(block + 208);
  for (int j = 0; j < kSuper / 16; ++j)
    set_symmetric(parts, j, d, static_cast<std::int8_t>(byte_at(block + 192 + j)), 32);
  for (int i = 0; i < kSuper; ++i) {
    const int half = i / 128;
    const int quarter = i % 128 / 32;
    const int low = byte_at(block + 64 * half + 32 * (quarter % 2) + i % 32) >> (quarter / 2 * 4);
    const int high = byte_at(block + 128 + 32 * half + i % 32) >> (2 * quarter) & 3;
    parts.codes[i] = static_cast<std::uint8_t>((low & 15) | high << 4);
  }
}

constexpr float kCodebook[16] = {-127, -104, -83, -65, -49, -35, -22, -10,
                                 1,    13,   25,  38,  53,  69,  89,  113};

void decode_iq4_nl(const std::byte* block, float* values) {
  const float d = half_at(block);
  for (int k = 0; k < 32; ++k) values[k] = d * kCodebook[nibble(block + 2, k)];
}

void decode_iq4_xs(const std::byte* block, float* values) {
  const float d = half_at(block);
  const int high_bits = u16_at(block + 2);
  for (int j = 0; j < kSuper / 32; ++j) {
    const int low = byte_at(block + 4 + j / 2) >> (4 * (j % 2)) & 15;
    const int scale = (low | (high_bits >> (2 * j) & 3) << 4) - 32;
    const float step = d * static_cast<float>(scale);
    for (int k = 0; k < 32; ++k)
      values[32 * j + k] = step * kCodebook[nibble(block + 8 + 16 * j, k)];
  }
}

quant::Grid k_grid(int bits, Index group_size, OffsetKind kind) {
  return block_grid(bits, group_size, kind, ScalePrecision::kF32);
}

}  // namespace

const BlockCodec* find_k_codec(std::uint32_t type) {
  using enum io::GgmlType;
  using enum OffsetKind;
  static const BlockCodec table[] = {
      {kQ2_K, k_grid(2, 16, kMinimum), unpack_q2_k, nullptr},
      {kQ3_K, k_grid(3, 16, kMiddleCode), unpack_q3_k, nullptr},
      {kQ4_K, k_grid(4, 32, kMinimum), unpack_q4_k, nullptr},
      {kQ5_K, k_grid(5, 32, kMinimum), unpack_q5_k, nullptr},
      {kQ6_K, k_grid(6, 16, kMiddleCode), unpack_q6_k, nullptr},
  };
  for (const BlockCodec& codec : table)
    if (static_cast<std::uint32_t>(codec.type) == type) return &codec;
  return nullptr;
}

DecodeBlock find_codebook_decoder(std::uint32_t type) {
  if (type == static_cast<std::uint32_t>(io::GgmlType::kIQ4_NL)) return decode_iq4_nl;
  if (type == static_cast<std::uint32_t>(io::GgmlType::kIQ4_XS)) return decode_iq4_xs;
  return nullptr;
}

}  // namespace calque::artifact
