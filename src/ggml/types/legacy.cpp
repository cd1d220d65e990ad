// Blocks of 32 with one binary16 scale, and a minimum in Q4_1 and Q5_1 (formats_gguf.md 2.1, 3.1,
// 3.7). Q8_0 is in legacy_q8.cpp.
#include "ggml/types/affine_fit.h"
#include "ggml/types/bytes.h"
#include "ggml/types/legacy_q8.h"
#include "ggml/types/strip.h"

namespace calque::ggml::inline CALQUE_GGML_ISA {
namespace {

constexpr int kBlock = 32;

// Codes as they are stored, and y = scale * code + minimum (Minimum) or scale * (code - middle).
struct Fit {
  Floats scale;
  Floats minimum;
  Lanes<kBlock> codes;
};

template <int Bits, bool Minimum>
struct Layout {
  static constexpr float kHighest = (1 << Bits) - 1;
  static constexpr float kMiddle = 1 << (Bits - 1);
  static constexpr int kHeader = Minimum ? 4 : 2;
  static constexpr int kFifthBits = Bits == 5 ? 4 : 0;
  static constexpr int kBytes = kHeader + kFifthBits + 16;
};

Floats reciprocal_or_zero(Floats v) { return v != 0 ? 1.0f / v : Floats{}; }

// The extreme goes to code 0 (-middle) exactly.
Fit fit_to_extreme(const Lanes<kBlock>& x, float middle) {
  Fit fit;
  fit.scale = signed_extreme(x) / -middle;
  const Floats inverse = reciprocal_or_zero(fit.scale);
  const Floats highest = broadcast(2 * middle - 1);
  for (int i = 0; i < kBlock; ++i)
    fit.codes[i] = at_most(truncated(x[i] * inverse + (middle + 0.5f)), highest);
  return fit;
}

Fit fit_to_range(const Lanes<kBlock>& x, float highest) {
  Floats smallest = x[0], largest = x[0];
  for (int i = 1; i < kBlock; ++i) {
    smallest = at_most(x[i], smallest);
    largest = at_least(x[i], largest);
  }
  Fit fit;
  fit.scale = (largest - smallest) / highest;
  fit.minimum = smallest;
  const Floats inverse = reciprocal_or_zero(fit.scale);
  for (int i = 0; i < kBlock; ++i)
    fit.codes[i] = at_most(truncated((x[i] - smallest) * inverse + 0.5f), broadcast(highest));
  return fit;
}

Fit fit_weighted(const Lanes<kBlock>& x, const Lanes<kBlock>& w, float middle) {
  const SymmetricFit found = fit_symmetric(x, w, middle);
  Fit fit;
  fit.scale = found.scale;
  for (int i = 0; i < kBlock; ++i)
    fit.codes[i] = symmetric_code(x[i], found.inverse, middle) + middle;
  return fit;
}

Fit fit_weighted_range(const Lanes<kBlock>& x, const Lanes<kBlock>& w, float highest) {
  const AffineFit found = fit_affine<false>(x, w, {highest, -0.9f, 0.05f, 36});
  Fit fit;
  fit.scale = found.scale;
  fit.minimum = -found.minimum;
  for (int i = 0; i < kBlock; ++i)
    fit.codes[i] = affine_code(x[i], found.inverse, found.origin, highest);
  return fit;
}

template <typename L, bool Minimum>
Fit fit_strip(const Strip& strip, float variance) {
  const auto x = load_groups<kBlock>(strip.values, kBlock, strip.blocks);
  if (!strip.importance)
    return Minimum ? fit_to_range(x, L::kHighest) : fit_to_extreme(x, L::kMiddle);
  const auto importance = load_groups<kBlock>(strip.importance, kBlock, strip.blocks);
  const auto w = element_weights(x, importance, broadcast(variance));
  return Minimum ? fit_weighted_range(x, w, L::kHighest) : fit_weighted(x, w, L::kMiddle);
}

// Bit k of the 32-bit word is bit 4 of code k.
void store_fifth_bits(const std::uint8_t* codes, std::byte* qh) {
  std::uint32_t bits = 0;
  for (int k = 0; k < kBlock; ++k) bits |= std::uint32_t{codes[k]} >> 4 << k;
  std::memcpy(qh, &bits, sizeof(bits));
}

void add_fifth_bits(const std::byte* qh, std::uint8_t* codes) {
  std::uint32_t bits;
  std::memcpy(&bits, qh, sizeof(bits));
  for (int k = 0; k < kBlock; ++k) codes[k] |= static_cast<std::uint8_t>((bits >> k & 1) << 4);
}

template <int Bits, bool Minimum>
void store_strip(const Fit& fit, int blocks, std::byte* out) {
  using L = Layout<Bits, Minimum>;
  alignas(64) std::uint8_t codes[kLanes * kBlock];
  store_groups(fit.codes, codes);
  for (int b = 0; b < blocks; ++b, out += L::kBytes) {
    const std::uint8_t* block_codes = codes + b * kBlock;
    store_half(fit.scale[b], out);
    if (Minimum) store_half(fit.minimum[b], out + 2);
    if (Bits == 5) store_fifth_bits(block_codes, out + L::kHeader);
    store_nibbles(block_codes, out + L::kHeader + L::kFifthBits);
  }
}

float mean_square(const Row& row) {
  float sum = 0;
  for (Index k = 0; k < row.columns; ++k) sum += row.values[k] * row.values[k];
  return sum / static_cast<float>(row.columns);
}

template <int Bits, bool Minimum>
void quantize(const Row& row, std::byte* out) {
  using L = Layout<Bits, Minimum>;
  const float variance = row.importance ? mean_square(row) : 0;
  for_each_strip(row, kBlock, [&](const Strip& strip, Index first) {
    store_strip<Bits, Minimum>(fit_strip<L, Minimum>(strip, variance), strip.blocks,
                               out + first * L::kBytes);
  });
}

template <int Bits, bool Minimum>
void dequantize(const std::byte* bytes, Index columns, float* values) {
  using L = Layout<Bits, Minimum>;
  for (Index k = 0; k < columns; k += kBlock, bytes += L::kBytes, values += kBlock) {
    std::uint8_t codes[kBlock];
    load_nibbles(bytes + L::kHeader + L::kFifthBits, codes);
    if (Bits == 5) add_fifth_bits(bytes + L::kHeader, codes);
    const float scale = load_half(bytes);
    const float minimum = Minimum ? load_half(bytes + 2) : 0;
    const float middle = Minimum ? 0 : L::kMiddle;
    for (int i = 0; i < kBlock; ++i)
      values[i] = scale * (static_cast<float>(codes[i]) - middle) + minimum;
  }
}

template <int Bits, bool Minimum>
Codec legacy_codec(GgmlBlock type) {
  return {type, kBlock, Layout<Bits, Minimum>::kBytes, quantize<Bits, Minimum>,
          dequantize<Bits, Minimum>};
}

}  // namespace

const Codec* find_legacy(GgmlBlock type) {
  static const Codec table[] = {legacy_codec<4, false>(GgmlBlock::kQ4_0),
                                legacy_codec<4, true>(GgmlBlock::kQ4_1),
                                legacy_codec<5, false>(GgmlBlock::kQ5_0),
                                legacy_codec<5, true>(GgmlBlock::kQ5_1),
                                {GgmlBlock::kQ8_0, kBlock, 34, quantize_q8_0, dequantize_q8_0}};
  for (const Codec& codec : table)
    if (codec.type == type) return &codec;
  return nullptr;
}

}  // namespace calque::ggml::inline CALQUE_GGML_ISA
