// Byte layouts of Q3_K and Q6_K (formats_gguf.md 2.2, 2.4).
#include "ggml/types/symmetric_k_layout.h"

#include "ggml/types/bytes.h"

namespace calque::ggml::inline CALQUE_GGML_ISA {
namespace {

// Sixteen six-bit scales, stored as scale + 32: low nibbles of groups 0..7 and 8..15 in bytes 0..7,
// high pairs of groups j, j + 4, j + 8, j + 12 in byte 8 + j.
void store_six_bit_scales(const std::int8_t* scales, std::byte* out) {
  int stored[16];
  for (int j = 0; j < 16; ++j) stored[j] = scales[j] + 32;
  for (int j = 0; j < 8; ++j) set_byte(out + j, (stored[j] & 15) | (stored[j + 8] & 15) << 4);
  for (int j = 0; j < 4; ++j)
    set_byte(out + 8 + j, stored[j] >> 4 | stored[j + 4] >> 4 << 2 | stored[j + 8] >> 4 << 4 |
                              stored[j + 12] >> 4 << 6);
}

void load_six_bit_scales(const std::byte* bytes, std::int8_t* scales) {
  for (int j = 0; j < 16; ++j) {
    const int low = byte_at(bytes + j % 8) >> (j / 8 * 4) & 15;
    const int high = byte_at(bytes + 8 + j % 4) >> (2 * (j / 4)) & 3;
    scales[j] = static_cast<std::int8_t>((low | high << 4) - 32);
  }
}

}  // namespace

// Bit j of byte l of the mask is bit 2 of code 32 j + l.
void store_q3_k(const SymmetricBlock& block, std::byte* out) {
  for (int l = 0; l < 32; ++l) {
    int mask = 0;
    for (int j = 0; j < 8; ++j) mask |= block.codes[32 * j + l] >> 2 << j;
    set_byte(out + l, mask);
  }
  store_two_bits(block.codes, out + 32);
  store_six_bit_scales(block.scales, out + 96);
  store_half(block.step, out + 108);
}

void load_q3_k(const std::byte* bytes, SymmetricBlock& block) {
  load_two_bits(bytes + 32, block.codes);
  for (int j = 0; j < 8; ++j)
    for (int l = 0; l < 32; ++l)
      block.codes[32 * j + l] |= static_cast<std::uint8_t>((byte_at(bytes + l) >> j & 1) << 2);
  load_six_bit_scales(bytes + 96, block.scales);
  block.step = load_half(bytes + 108);
}

// In each half of 128: quarters 0 and 1 in the low nibbles of ql, 2 and 3 in the high ones; the
// high two bits of the four quarters side by side in qh.
void store_q6_k(const SymmetricBlock& block, std::byte* out) {
  for (int half = 0; half < 2; ++half)
    for (int l = 0; l < 32; ++l) {
      const std::uint8_t* c = block.codes + 128 * half + l;
      set_byte(out + 64 * half + l, (c[0] & 15) | (c[64] & 15) << 4);
      set_byte(out + 64 * half + 32 + l, (c[32] & 15) | (c[96] & 15) << 4);
      set_byte(out + 128 + 32 * half + l,
               c[0] >> 4 | c[32] >> 4 << 2 | c[64] >> 4 << 4 | c[96] >> 4 << 6);
    }
  for (int j = 0; j < 16; ++j) set_byte(out + 192 + j, block.scales[j]);
  store_half(block.step, out + 208);
}

void load_q6_k(const std::byte* bytes, SymmetricBlock& block) {
  for (int half = 0; half < 2; ++half)
    for (int quarter = 0; quarter < 4; ++quarter)
      for (int l = 0; l < 32; ++l) {
        const int low = byte_at(bytes + 64 * half + 32 * (quarter % 2) + l) >> (quarter / 2 * 4);
        const int high = byte_at(bytes + 128 + 32 * half + l) >> (2 * quarter) & 3;
        block.codes[128 * half + 32 * quarter + l] =
            static_cast<std::uint8_t>((low & 15) | high << 4);
      }
  for (int j = 0; j < 16; ++j) block.scales[j] = static_cast<std::int8_t>(bytes[192 + j]);
  block.step = load_half(bytes + 208);
}

}  // namespace calque::ggml::inline CALQUE_GGML_ISA
