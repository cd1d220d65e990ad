// Super-blocks of 256 columns in 8 or 16 groups, each of which has a scale and a minimum:
// Q2_K, Q4_K and Q5_K.
#include "ggml/types/bytes.h"
#include "ggml/types/fit.h"

namespace calque::ggml::inline CALQUE_ISA {
namespace {

// Bytes: 16 groups of 16 in Q2_K, 8 of 32 in Q4_K and Q5_K.

// Eight pairs of six-bit numbers in twelve bytes: groups 0..3 in the low six bits of bytes 0..3
// (scales) and 4..7 (minima); groups 4..7 with their low nibbles in bytes 8..11 and their high two
// bits on top of the first eight bytes.
void store_six_bit_pairs(const Block& block, std::byte* out) {
  for (int j = 0; j < 4; ++j) {
    const int scale = block.scales[j + 4], minimum = block.minima[j + 4];
    set_byte(out + j, block.scales[j] | scale >> 4 << 6);
    set_byte(out + j + 4, block.minima[j] | minimum >> 4 << 6);
    set_byte(out + j + 8, (scale & 15) | (minimum & 15) << 4);
  }
}

void load_six_bit_pairs(const std::byte* bytes, Block& block) {
  for (int j = 0; j < 4; ++j) {
    const int scale = byte_at(bytes + j), minimum = byte_at(bytes + j + 4);
    const int low = byte_at(bytes + j + 8);
    block.scales[j] = static_cast<std::int8_t>(scale & 63);
    block.minima[j] = static_cast<std::int8_t>(minimum & 63);
    block.scales[j + 4] = static_cast<std::int8_t>((low & 15) | scale >> 6 << 4);
    block.minima[j + 4] = static_cast<std::int8_t>(low >> 4 | minimum >> 6 << 4);
  }
}

void store_steps(const Block& block, std::byte* out) {
  store_half(block.step, out);
  store_half(block.minimum_step, out + 2);
}

void load_steps(const std::byte* bytes, Block& block) {
  block.step = load_half(bytes);
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

void store_q2_k(const Block& block, std::byte* out) {
  for (int j = 0; j < 16; ++j) set_byte(out + j, block.scales[j] | block.minima[j] << 4);
  store_two_bits(block.codes, out + 16);
  store_steps(block, out + 80);
}

[[gnu::noinline]] void load_q2_k(const std::byte* bytes, Block& block) {
  for (int j = 0; j < 16; ++j) {
    block.scales[j] = static_cast<std::int8_t>(byte_at(bytes + j) & 15);
    block.minima[j] = static_cast<std::int8_t>(byte_at(bytes + j) >> 4);
  }
  load_two_bits(bytes + 16, block.codes);
  load_steps(bytes + 80, block);
}

void store_q4_k(const Block& block, std::byte* out) {
  store_steps(block, out);
  store_six_bit_pairs(block, out + 4);
  store_paired_nibbles(block.codes, out + 16);
}

[[gnu::noinline]] void load_q4_k(const std::byte* bytes, Block& block) {
  load_steps(bytes, block);
  load_six_bit_pairs(bytes + 4, block);
  load_paired_nibbles(bytes + 16, block.codes);
}

// Bit j of qh[l] is bit 4 of the code of element l of group j.
void store_q5_k(const Block& block, std::byte* out) {
  store_steps(block, out);
  store_six_bit_pairs(block, out + 4);
  for (int l = 0; l < 32; ++l) {
    int bits = 0;
    for (int j = 0; j < 8; ++j) bits |= block.codes[32 * j + l] >> 4 << j;
    set_byte(out + 16 + l, bits);
  }
  store_paired_nibbles(block.codes, out + 48);
}

[[gnu::noinline]] void load_q5_k(const std::byte* bytes, Block& block) {
  load_steps(bytes, block);
  load_six_bit_pairs(bytes + 4, block);
  load_paired_nibbles(bytes + 48, block.codes);
  for (int j = 0; j < 8; ++j)
    for (int l = 0; l < 32; ++l)
      block.codes[32 * j + l] |= static_cast<std::uint8_t>((byte_at(bytes + 16 + l) >> j & 1) << 4);
}

// Rounding.

struct Q2K {
  static constexpr Type kType = Type::kQ2_K;
  static constexpr int kBytes = block_bytes(kType);
  static constexpr int kGroup = 16;
  static constexpr float kHighestScale = 15;
  static constexpr bool kAbsoluteError = true;
  static constexpr AffineSearch kPlain{3, -0.5f, 0.1f, 15};
  static constexpr AffineSearch kWeighted{3, -0.9f, 0.05f, 36};
  // Variance in the element weights, in units of the super-block's mean square.
  static constexpr float kVariance = 1;
  static Lanes<16> plain_weights(const Lanes<16>& x) {
    Lanes<16> w;
    for (int i = 0; i < 16; ++i) w[i] = magnitude(x[i]);
    return w;
  }
  static constexpr auto store = store_q2_k;
  static constexpr auto load = load_q2_k;
};

struct Q4K {
  static constexpr Type kType = Type::kQ4_K;
  static constexpr int kBytes = block_bytes(kType);
  static constexpr int kGroup = 32;
  static constexpr float kHighestScale = 63;
  static constexpr bool kAbsoluteError = false;
  static constexpr AffineSearch kPlain{15, -1.0f, 0.1f, 20};
  static constexpr AffineSearch kWeighted{15, -0.9f, 0.05f, 36};
  static constexpr float kVariance = 2;
  // Root mean square of the group plus the magnitude.
  static Lanes<32> plain_weights(const Lanes<32>& x) {
    const Floats typical = square_root(total(squares(x)) / 32.0f);
    Lanes<32> w;
    for (int i = 0; i < 32; ++i) w[i] = typical + magnitude(x[i]);
    return w;
  }
  static constexpr auto store = store_q4_k;
  static constexpr auto load = load_q4_k;
};

struct Q5K : Q4K {
  static constexpr Type kType = Type::kQ5_K;
  static constexpr int kBytes = block_bytes(kType);
  static constexpr AffineSearch kPlain{31, -0.5f, 0.1f, 15};
  static constexpr AffineSearch kWeighted{31, -0.9f, 0.05f, 36};
  static constexpr auto store = store_q5_k;
  static constexpr auto load = load_q5_k;
};

// The groups of the super-blocks of a strip, in order.
struct GroupFits {
  alignas(64) float scale[kLanes * 16] = {};
  alignas(64) float minimum[kLanes * 16] = {};
  alignas(64) float weight[kLanes * 16] = {};
  alignas(64) float inverse[kLanes * 16] = {};
  alignas(64) float origin[kLanes * 16] = {};
};

template <typename T>
AffineFit fit_groups(const Strip& strip, const Batch<T::kGroup>& batch, Floats variances,
                     Floats& weight) {
  const auto x = batch.load_from(strip.values);
  if (!strip.importance) return fit_affine<T::kAbsoluteError>(x, T::plain_weights(x), T::kPlain);
  const auto w = element_weights(x, batch.load_from(strip.importance), spread(variances, batch));
  weight = total(w);
  return fit_affine<false>(x, w, T::kWeighted);
}

template <typename T>
void fit_strip(const Strip& strip, GroupFits& fits) {
  Floats variances{};
  if (strip.importance)
    variances = T::kVariance * super_block_energies(strip) / static_cast<float>(kSuper);
  for_each_batch<T::kGroup>(strip, [&](const Batch<T::kGroup>& batch) {
    Floats weight{};
    const AffineFit fit = fit_groups<T>(strip, batch, variances, weight);
    store(fits.scale + batch.first_group, fit.scale);
    store(fits.minimum + batch.first_group, fit.minimum);
    store(fits.weight + batch.first_group, weight);
    store(fits.inverse + batch.first_group, fit.inverse);
    store(fits.origin + batch.first_group, fit.origin);
  });
}

// The scales (or minima) of each super-block as codes times one step.
template <int Groups>
CodedFit<Groups> code_by_largest(const Lanes<Groups>& x, float highest) {
  Floats largest{};
  for (int j = 0; j < Groups; ++j) largest = at_least(x[j], largest);
  const Ints positive = largest > 0;
  const Floats inverse = positive ? highest / largest : Floats{};
  CodedFit<Groups> fit;
  for (int j = 0; j < Groups; ++j)
    fit.codes[j] = nearest_code(inverse * x[j], Floats{}, broadcast(highest));
  fit.scale = positive ? largest / highest : Floats{};
  return fit;
}

template <int Groups>
CodedFit<Groups> code_levels(const float* levels, const float* weights, float highest) {
  const auto x = gather_groups<Groups>(levels);
  if (!weights) return code_by_largest(x, highest);
  return fit_nonnegative(x, gather_groups<Groups>(weights), highest);
}

template <int Groups>
void assign_levels(const CodedFit<Groups>& scales, const CodedFit<Groups>& minima, int s,
                   Block& block) {
  block.step = half_value(scales.scale[s]);
  block.minimum_step = half_value(minima.scale[s]);
  for (int j = 0; j < Groups; ++j) {
    block.scales[j] = static_cast<std::int8_t>(scales.codes[j][s]);
    block.minima[j] = static_cast<std::int8_t>(minima.codes[j][s]);
  }
}

// Codes for the stored scale and minimum; those of the search where the scale became 0.
template <typename T>
void round_group(const float* x, const Block& block, int j, float inverse, float origin,
                 std::uint8_t* codes) {
  const float scale = block.step * static_cast<float>(block.scales[j]);
  const float minimum = block.minimum_step * static_cast<float>(block.minima[j]);
  const Floats highest = broadcast(T::kPlain.highest);
  for (int i = 0; i < T::kGroup; i += kLanes) {
    const Floats v = load(x + i);
    const Floats real = scale != 0 ? (v + minimum) / scale : inverse * (v - origin);
    store_codes(nearest_code(real, Floats{}, highest), codes + i);
  }
}

template <typename T>
void quantize(const Row& row, std::byte* out) {
  constexpr int kGroups = kSuper / T::kGroup;
  for_each_strip(row, kSuper, [&](const Strip& strip, Index first) {
    GroupFits fits;
    fit_strip<T>(strip, fits);
    const float* weights = strip.importance ? fits.weight : nullptr;
    const auto scales = code_levels<kGroups>(fits.scale, weights, T::kHighestScale);
    const auto minima = code_levels<kGroups>(fits.minimum, weights, T::kHighestScale);
    for (int s = 0; s < strip.blocks; ++s) {
      Block block;
      assign_levels(scales, minima, s, block);
      for (int j = 0; j < kGroups; ++j)
        round_group<T>(strip.values + s * kSuper + j * T::kGroup, block, j,
                       fits.inverse[s * kGroups + j], fits.origin[s * kGroups + j],
                       block.codes + j * T::kGroup);
      T::store(block, out + (first + s) * static_cast<Index>(T::kBytes));
    }
  });
}

// Codes are never below zero here, and g++ 12 widens unsigned bytes a tenth faster.
float unsigned_value(std::int8_t code) {
  return static_cast<float>(static_cast<std::uint8_t>(code));
}

template <typename T>
void dequantize(const std::byte* bytes, Index columns, float* values) {
  for (Index k = 0; k < columns; k += kSuper, bytes += T::kBytes) {
    Block block;
    T::load(bytes, block);
    for (int i = 0; i < kSuper; ++i) {
      const int j = i / T::kGroup;
      const float scale = block.step * unsigned_value(block.scales[j]);
      const float minimum = block.minimum_step * unsigned_value(block.minima[j]);
      values[k + i] = scale * static_cast<float>(block.codes[i]) - minimum;
    }
  }
}

template <typename T>
constexpr Codec affine_codec() {
  return {T::kType, quantize<T>, dequantize<T>, T::load, T::store};
}

}  // namespace

const Codec* find_affine_k(Type type) {
  static constexpr Codec kTable[] = {affine_codec<Q2K>(), affine_codec<Q4K>(), affine_codec<Q5K>()};
  for (const Codec& codec : kTable)
    if (codec.type == type) return &codec;
  return nullptr;
}

}  // namespace calque::ggml::inline CALQUE_ISA
