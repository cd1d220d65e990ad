// Q8_0: 32 signed bytes and one binary16 scale (formats_gguf.md 2.1, 3.1).
#include "ggml/types/legacy_q8.h"

#include "ggml/types/bytes.h"
#include "ggml/types/rounding.h"

namespace calque::ggml::inline CALQUE_GGML_ISA {
namespace {

constexpr int kBlock = 32;
constexpr int kBytes = 34;

void quantize_block(const float* x, std::byte* out) {
  const float scale = largest_magnitude(x, kBlock) / 127.0f;
  const float inverse = scale != 0 ? 1.0f / scale : 0.0f;
  store_half(scale, out);
  std::uint8_t codes[kBlock];
  for (int i = 0; i < kBlock; i += kLanes)
    store_codes(round_half_away(load(x + i) * inverse), codes + i);
  std::memcpy(out + 2, codes, kBlock);
}

}  // namespace

void quantize_q8_0(const Row& row, std::byte* out) {
  for (Index k = 0; k < row.columns; k += kBlock, out += kBytes)
    quantize_block(row.values + k, out);
}

void dequantize_q8_0(const std::byte* bytes, Index columns, float* values) {
  for (Index k = 0; k < columns; k += kBlock, bytes += kBytes) {
    const float scale = load_half(bytes);
    for (int i = 0; i < kBlock; ++i)
      values[k + i] = scale * static_cast<float>(static_cast<std::int8_t>(bytes[2 + i]));
  }
}

}  // namespace calque::ggml::inline CALQUE_GGML_ISA
