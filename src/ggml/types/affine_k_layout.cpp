// Byte layouts of Q2_K, Q4_K and Q5_K (formats_gguf.md 2.2, 2.3).
#include "ggml/types/affine_k_layout.h"

#include "ggml/types/bytes.h"

namespace calque::ggml::inline CALQUE_GGML_ISA {
namespace {

// Eight pairs of six-bit numbers in twelve bytes: groups 0..3 in the low six bits of bytes 0..3
// (scales) and 4..7 (minima); groups 4..7 with their low nibbles in bytes 8..11 and their high two
// bits on top of the first eight bytes.
void store_six_bit_pairs(const AffineBlock& block, std::byte* out) {
  for (int j = 0; j < 4; ++j) {
    const int scale = block.scales[j + 4], minimum = block.minima[j + 4];
    set_byte(out + j, block.scales[j] | scale >> 4 << 6);
    set_byte(out + j + 4, block.minima[j] | minimum >> 4 << 6);
    set_byte(out + j + 8, (scale & 15) | (minimum & 15) << 4);
  }
}

void load_six_bit_pairs(const std::byte* bytes, AffineBlock& block) {
  for (int j = 0; j < 4; ++j) {
    const int scale = byte_at(bytes + j), minimum = byte_at(bytes + j + 4);
    const int low = byte_at(bytes + j + 8);
    block.scales[j] = static_cast<std::uint8_t>(scale & 63);
    block.minima[j] = static_cast<std::uint8_t>(minimum & 63);
    block.scales[j + 4] = static_cast<std::uint8_t>((low & 15) | scale >> 6 << 4);
    block.minima[j + 4] = static_cast<std::uint8_t>(low >> 4 | minimum >> 6 << 4);
  }
}

void store_steps(const AffineBlock& block, std::byte* out) {
  store_half(block.scale_step, out);
  store_half(block.minimum_step, out + 2);
}

void load_steps(const std::byte* bytes, AffineBlock& block) {
  block.scale_step = load_half(bytes);
  block.minimum_step = load_half(bytes + 2);
}

// Low nibbles: even groups of 32; high nibbles: odd groups.
void store_paired_nibbles(const std::uint8_t* codes, std::byte* qs) {
  for (int pair = 0; pair < 4; ++pair)
    for (int l = 0; l < 32; ++l) {
      const std::uint8_t* c = codes + 64 * pair + l;
      set_byte(qs + 32 * pair + l, (c[0] & 15) | (c[32] & 15) << 4);
    }
}

void load_paired_nibbles(const std::byte* qs, std::uint8_t* codes) {
  for (int pair = 0; pair < 4; ++pair)
    for (int l = 0; l < 32; ++l) {
      const int both = byte_at(qs + 32 * pair + l);
      codes[64 * pair + l] = static_cast<std::uint8_t>(both & 15);
      codes[64 * pair + 32 + l] = static_cast<std::uint8_t>(both >> 4);
    }
}

}  // namespace

void store_q2_k(const AffineBlock& block, std::byte* out) {
  for (int j = 0; j < 16; ++j) set_byte(out + j, block.scales[j] | block.minima[j] << 4);
  store_two_bits(block.codes, out + 16);
  store_steps(block, out + 80);
}

void load_q2_k(const std::byte* bytes, AffineBlock& block) {
  for (int j = 0; j < 16; ++j) {
    block.scales[j] = static_cast<std::uint8_t>(byte_at(bytes + j) & 15);
    block.minima[j] = static_cast<std::uint8_t>(byte_at(bytes + j) >> 4);
  }
  load_two_bits(bytes + 16, block.codes);
  load_steps(bytes + 80, block);
}

void store_q4_k(const AffineBlock& block, std::byte* out) {
  store_steps(block, out);
  store_six_bit_pairs(block, out + 4);
  store_paired_nibbles(block.codes, out + 16);
}

void load_q4_k(const std::byte* bytes, AffineBlock& block) {
  load_steps(bytes, block);
  load_six_bit_pairs(bytes + 4, block);
  load_paired_nibbles(bytes + 16, block.codes);
}

// Bit j of qh[l] is bit 4 of the code of element l of group j.
void store_q5_k(const AffineBlock& block, std::byte* out) {
  store_steps(block, out);
  store_six_bit_pairs(block, out + 4);
  for (int l = 0; l < 32; ++l) {
    int bits = 0;
    for (int j = 0; j < 8; ++j) bits |= block.codes[32 * j + l] >> 4 << j;
    set_byte(out + 16 + l, bits);
  }
  store_paired_nibbles(block.codes, out + 48);
}

void load_q5_k(const std::byte* bytes, AffineBlock& block) {
  load_steps(bytes, block);
  load_six_bit_pairs(bytes + 4, block);
  load_paired_nibbles(bytes + 48, block.codes);
  for (int j = 0; j < 8; ++j)
    for (int l = 0; l < 32; ++l)
      block.codes[32 * j + l] |= static_cast<std::uint8_t>((byte_at(bytes + 16 + l) >> j & 1) << 4);
}

}  // namespace calque::ggml::inline CALQUE_GGML_ISA
