// Blocks of 32 columns with one binary16 scale: Q4_0, Q5_0, Q8_0; with a minimum, too: Q4_1 and
// Q5_1.
#include "ggml/types/bytes.h"
#include "ggml/types/fit.h"

namespace calque::ggml::inline CALQUE_ISA {
namespace {

constexpr int kBlock = 32;

// Codes as they are stored, and y = scale * code + minimum (Minimum) or scale * (code - middle).
struct Fit {
  Floats scale;
  Floats minimum{};
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
void store_fields(float scale, float minimum, const std::uint8_t* codes, std::byte* out) {
  using L = Layout<Bits, Minimum>;
  store_half(scale, out);
  if (Minimum) store_half(minimum, out + 2);
  if (Bits == 5) store_fifth_bits(codes, out + L::kHeader);
  store_nibbles(codes, out + L::kHeader + L::kFifthBits);
}

template <int Bits, bool Minimum>
void load_codes(const std::byte* bytes, std::uint8_t* codes) {
  using L = Layout<Bits, Minimum>;
  load_nibbles(bytes + L::kHeader + L::kFifthBits, codes);
  if (Bits == 5) add_fifth_bits(bytes + L::kHeader, codes);
}

template <int Bits, bool Minimum>
void load_block(const std::byte* bytes, Block& block) {
  block.step = load_half(bytes);
  if (Minimum) block.minimum_step = load_half(bytes + 2);
  load_codes<Bits, Minimum>(bytes, block.codes);
}

template <int Bits, bool Minimum>
void store_block(const Block& block, std::byte* out) {
  store_fields<Bits, Minimum>(block.step, block.minimum_step, block.codes, out);
}

template <int Bits, bool Minimum>
void store_strip(const Fit& fit, int blocks, std::byte* out) {
  alignas(64) std::uint8_t codes[kLanes * kBlock];
  store_groups(fit.codes, codes);
  for (int b = 0; b < blocks; ++b, out += Layout<Bits, Minimum>::kBytes)
    store_fields<Bits, Minimum>(fit.scale[b], fit.minimum[b], codes + b * kBlock, out);
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
    load_codes<Bits, Minimum>(bytes, codes);
    const float scale = load_half(bytes);
    const float minimum = Minimum ? load_half(bytes + 2) : 0;
    const float middle = Minimum ? 0 : L::kMiddle;
    for (int i = 0; i < kBlock; ++i)
      values[i] = scale * (static_cast<float>(codes[i]) - middle) + minimum;
  }
}

// Q8_0: signed bytes -128..127, which as codes are 0..255: the sign bit flips.
constexpr int kQ8Bytes = block_bytes(Type::kQ8_0);

void quantize_q8_block(const float* x, std::byte* out) {
  const float scale = largest_magnitude(x, kBlock) / 127.0f;
  const float inverse = scale != 0 ? 1.0f / scale : 0.0f;
  store_half(scale, out);
  std::uint8_t codes[kBlock];
  for (int i = 0; i < kBlock; i += kLanes)
    store_codes(round_half_away(load(x + i) * inverse), codes + i);
  std::memcpy(out + 2, codes, kBlock);
}

void quantize_q8_0(const Row& row, std::byte* out) {
  for (Index k = 0; k < row.columns; k += kBlock, out += kQ8Bytes)
    quantize_q8_block(row.values + k, out);
}

void dequantize_q8_0(const std::byte* bytes, Index columns, float* values) {
  for (Index k = 0; k < columns; k += kBlock, bytes += kQ8Bytes) {
    const float scale = load_half(bytes);
    for (int i = 0; i < kBlock; ++i)
      values[k + i] = scale * static_cast<float>(static_cast<std::int8_t>(bytes[2 + i]));
  }
}

void load_q8_0(const std::byte* bytes, Block& block) {
  block.step = load_half(bytes);
  for (int k = 0; k < kBlock; ++k)
    block.codes[k] = static_cast<std::uint8_t>(byte_at(bytes + 2 + k) ^ 0x80);
}

void store_q8_0(const Block& block, std::byte* out) {
  store_half(block.step, out);
  for (int k = 0; k < kBlock; ++k) set_byte(out + 2 + k, block.codes[k] ^ 0x80);
}

template <int Bits, bool Minimum>
constexpr Codec legacy_codec(Type type) {
  return {type, quantize<Bits, Minimum>, dequantize<Bits, Minimum>, load_block<Bits, Minimum>,
          store_block<Bits, Minimum>};
}

static_assert(Layout<4, false>::kBytes == block_bytes(Type::kQ4_0) &&
              Layout<4, true>::kBytes == block_bytes(Type::kQ4_1) &&
              Layout<5, false>::kBytes == block_bytes(Type::kQ5_0) &&
              Layout<5, true>::kBytes == block_bytes(Type::kQ5_1));

}  // namespace

const Codec* find_legacy(Type type) {
  static constexpr Codec kTable[] = {
      legacy_codec<4, false>(Type::kQ4_0),
      legacy_codec<4, true>(Type::kQ4_1),
      legacy_codec<5, false>(Type::kQ5_0),
      legacy_codec<5, true>(Type::kQ5_1),
      {Type::kQ8_0, quantize_q8_0, dequantize_q8_0, load_q8_0, store_q8_0}};
  for (const Codec& codec : kTable)
    if (codec.type == type) return &codec;
  return nullptr;
}

}  // namespace calque::ggml::inline CALQUE_ISA
