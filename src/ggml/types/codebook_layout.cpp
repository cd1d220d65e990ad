// Byte layouts of IQ4_NL and IQ4_XS (formats_gguf.md 2.5, 3.7.1).
#include "ggml/types/codebook_layout.h"

#include "ggml/types/bytes.h"

namespace calque::ggml::inline CALQUE_GGML_ISA {
namespace {

constexpr int kGroup = 32;
constexpr int kXsGroups = 8;

// Six bits of scale + 32: the low four in scales_l, the high two in scales_h.
void store_xs_scales(const std::int8_t* scales, std::byte* block) {
  int stored[kXsGroups];
  int high = 0;
  for (int j = 0; j < kXsGroups; ++j) {
    stored[j] = scales[j] + 32;
    high |= stored[j] >> 4 << (2 * j);
  }
  set_byte(block + 2, high & 255);
  set_byte(block + 3, high >> 8);
  for (int j = 0; j < kXsGroups; j += 2)
    set_byte(block + 4 + j / 2, (stored[j] & 15) | (stored[j + 1] & 15) << 4);
}

void load_xs_scales(const std::byte* block, std::int8_t* scales) {
  const int high = byte_at(block + 2) | byte_at(block + 3) << 8;
  for (int j = 0; j < kXsGroups; ++j) {
    const int low = byte_at(block + 4 + j / 2) >> (4 * (j % 2)) & 15;
    scales[j] = static_cast<std::int8_t>((low | (high >> (2 * j) & 3) << 4) - 32);
  }
}

}  // namespace

void store_iq4_nl(const CodebookBlock& block, std::byte* out) {
  store_half(block.step, out);
  store_nibbles(block.codes, out + 2);
}

void load_iq4_nl(const std::byte* bytes, CodebookBlock& block) {
  block.step = load_half(bytes);
  load_nibbles(bytes + 2, block.codes);
}

void store_iq4_xs(const CodebookBlock& block, std::byte* out) {
  store_half(block.step, out);
  store_xs_scales(block.scales, out);
  for (int j = 0; j < kXsGroups; ++j)
    store_nibbles(block.codes + j * kGroup, out + 8 + j * kGroup / 2);
}

void load_iq4_xs(const std::byte* bytes, CodebookBlock& block) {
  block.step = load_half(bytes);
  load_xs_scales(bytes, block.scales);
  for (int j = 0; j < kXsGroups; ++j)
    load_nibbles(bytes + 8 + j * kGroup / 2, block.codes + j * kGroup);
}

}  // namespace calque::ggml::inline CALQUE_GGML_ISA
