// Sixteen uneven levels and a signed scale: IQ4_NL (blocks of 32) and IQ4_XS (super-blocks of 256
// with eight six-bit scales).
#include "ggml/types/bytes.h"
#include "ggml/types/fit.h"

namespace calque::ggml::inline CALQUE_ISA {
namespace {

constexpr int kGroup = 32;
constexpr int kNlBytes = block_bytes(Type::kIQ4_NL);
constexpr int kXsBytes = block_bytes(Type::kIQ4_XS);
constexpr int kXsGroups = kSuper / kGroup;

// A copy of the table's levels that is this file's own.
struct Levels {
  float at[16];
};
consteval Levels levels_of_the_table() {
  Levels levels{};
  for (int i = 0; i < 16; ++i) levels.at[i] = kIq4Levels[i];
  return levels;
}
constexpr Levels kLevels = levels_of_the_table();

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

void store_iq4_nl(const Block& block, std::byte* out) {
  store_half(block.step, out);
  store_nibbles(block.codes, out + 2);
}

[[gnu::noinline]] void load_iq4_nl(const std::byte* bytes, Block& block) {
  block.step = load_half(bytes);
  load_nibbles(bytes + 2, block.codes);
  block.scales[0] = 1;
}

void store_iq4_xs(const Block& block, std::byte* out) {
  store_half(block.step, out);
  store_xs_scales(block.scales, out);
  for (int j = 0; j < kXsGroups; ++j)
    store_nibbles(block.codes + j * kGroup, out + 8 + j * kGroup / 2);
}

void load_iq4_xs(const std::byte* bytes, Block& block) {
  block.step = load_half(bytes);
  load_xs_scales(bytes, block.scales);
  for (int j = 0; j < kXsGroups; ++j)
    load_nibbles(bytes + 8 + j * kGroup / 2, block.codes + j * kGroup);
}

// Between neighbouring levels; at the middle the upper level wins. The last is never passed.
constexpr float kMiddles[16] = {-115.5f, -93.5f, -74,   -57,   -42, -28.5f, -16, -4.5f,
                                7,       19,     31.5f, 45.5f, 61,  79,     101, __builtin_inff()};

Floats look_up(const float* table, Ints index) {
  if constexpr (kLanes == 16) return shuffle(load(table), load(table), index);
  if constexpr (kLanes == 8) return shuffle(load(table), load(table + kLanes), index);
  Floats found{};
  for (int lane = 0; lane < kLanes; ++lane) found[lane] = table[index[lane]];
  return found;
}

// Comparisons with a middle found by halving the table.
Ints nearest_index(Floats v) {
  Ints index{};
  for (int step = 8; step > 0; step /= 2)
    index += (v >= look_up(kMiddles, index + (step - 1))) & step;
  return index;
}

Floats level(Ints index) { return look_up(kLevels.at, index); }

void project(const Lanes<kGroup>& x, const Lanes<kGroup>& w, Floats inverse, Projection& sums) {
  sums = {};
  for (int i = 0; i < kGroup; ++i) {
    const Floats q = level(nearest_index(inverse * x[i]));
    sums.A += w[i] * q * x[i];
    sums.B += w[i] * q * q;
  }
}

// The best of sixteen scales, each after a weighted least-squares fit; 0 for a zero group.
Floats fit_scale(const Lanes<kGroup>& x, const Lanes<kGroup>& w) {
  const float lowest = kLevels.at[0];
  const Floats extreme = signed_extreme(x);
  Projection sums;
  project(x, w, 1.0f / (-extreme / lowest), sums);
  Floats scale = sums.B > 0 ? sums.A / sums.B : Floats{};
  Floats gain = scale * sums.A;
  for (int step = -7; step <= 7; ++step) {
    project(x, w, (static_cast<float>(step) + lowest) / extreme, sums);
    const Ints better = (sums.B > 0) & (sums.A * sums.A > gain * sums.B);
    scale = better ? sums.A / sums.B : scale;
    gain = better ? scale * sums.A : gain;
  }
  return magnitude(extreme) < kZeroGroup ? Floats{} : scale;
}

void encode(const float* x, float inverse, std::uint8_t* codes) {
  for (int i = 0; i < kGroup; i += kLanes)
    store_bytes(nearest_index(inverse * load(x + i)), codes + i);
}

void decode(const std::uint8_t* codes, float scale, float* values) {
  for (int i = 0; i < kGroup; ++i) values[i] = scale * kLevels.at[codes[i]];
}

float reciprocal_or_zero(float v) { return v != 0 ? 1.0f / v : 0.0f; }

// The variance is twice the mean square of the block.
Lanes<kGroup> block_weights(const Strip& strip, const Lanes<kGroup>& x) {
  const Lanes<kGroup> energy = squares(x);
  if (!strip.importance) return energy;
  const Floats variance = 2.0f * total(energy) / static_cast<float>(kGroup);
  return element_weights(x, load_groups<kGroup>(strip.importance, kGroup, strip.blocks), variance);
}

void quantize_iq4_nl(const Row& row, std::byte* out) {
  for_each_strip(row, kGroup, [&](const Strip& strip, Index first) {
    const auto x = load_groups<kGroup>(strip.values, kGroup, strip.blocks);
    const Floats scales = fit_scale(x, block_weights(strip, x));
    for (int b = 0; b < strip.blocks; ++b) {
      Block block;
      block.step = scales[b];
      encode(strip.values + b * kGroup, reciprocal_or_zero(scales[b]), block.codes);
      store_iq4_nl(block, out + (first + b) * kNlBytes);
    }
  });
}

void dequantize_iq4_nl(const std::byte* bytes, Index columns, float* values) {
  for (Index k = 0; k < columns; k += kGroup, bytes += kNlBytes) {
    Block block;
    load_iq4_nl(bytes, block);
    decode(block.codes, block.step, values + k);
  }
}

void fit_groups(const Strip& strip, float* scales) {
  Floats variances{};
  if (strip.importance) variances = 2.0f * super_block_energies(strip) / static_cast<float>(kSuper);
  for_each_batch<kGroup>(strip, [&](const Batch<kGroup>& batch) {
    const auto x = batch.load_from(strip.values);
    const auto w = strip.importance ? element_weights(x, batch.load_from(strip.importance),
                                                      spread(variances, batch))
                                    : squares(x);
    store(scales + batch.first_group, fit_scale(x, w));
  });
}

float signed_extreme_of(const float* scales) {
  float extreme = 0;
  for (int j = 0; j < kXsGroups; ++j)
    if (__builtin_fabsf(scales[j]) > __builtin_fabsf(extreme)) extreme = scales[j];
  return extreme;
}

// The codes follow the step before it was rounded to binary16, as in the reference.
void encode_xs(const float* x, const float* scales, std::byte* out) {
  Block block;
  block.step = -signed_extreme_of(scales) / 32;
  const float inverse = reciprocal_or_zero(block.step);
  for (int j = 0; j < kXsGroups; ++j) {
    const Floats real = broadcast(inverse * scales[j]);
    const float code = nearest_code(real, broadcast(-32), broadcast(31))[0];
    block.scales[j] = static_cast<std::int8_t>(code);
    encode(x + j * kGroup, reciprocal_or_zero(block.step * code), block.codes + j * kGroup);
  }
  store_iq4_xs(block, out);
}

void quantize_iq4_xs(const Row& row, std::byte* out) {
  for_each_strip(row, kSuper, [&](const Strip& strip, Index first) {
    alignas(64) float scales[kLanes * kXsGroups];
    fit_groups(strip, scales);
    for (int s = 0; s < strip.blocks; ++s)
      encode_xs(strip.values + s * kSuper, scales + s * kXsGroups, out + (first + s) * kXsBytes);
  });
}

void dequantize_iq4_xs(const std::byte* bytes, Index columns, float* values) {
  for (Index k = 0; k < columns; k += kSuper, bytes += kXsBytes) {
    Block block;
    load_iq4_xs(bytes, block);
    for (int j = 0; j < kXsGroups; ++j)
      decode(block.codes + j * kGroup, block.step * static_cast<float>(block.scales[j]),
             values + k + j * kGroup);
  }
}

}  // namespace

const Codec* find_codebook(Type type) {
  static constexpr Codec kTable[] = {
      {Type::kIQ4_NL, quantize_iq4_nl, dequantize_iq4_nl, load_iq4_nl, store_iq4_nl},
      {Type::kIQ4_XS, quantize_iq4_xs, dequantize_iq4_xs, load_iq4_xs, store_iq4_xs}};
  for (const Codec& codec : kTable)
    if (codec.type == type) return &codec;
  return nullptr;
}

}  // namespace calque::ggml::inline CALQUE_ISA
