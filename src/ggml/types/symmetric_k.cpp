// Super-blocks of 256 columns in 16 groups, each of which has a signed scale and no minimum:
// Q3_K and Q6_K.
#include "ggml/types/bytes.h"
#include "ggml/types/fit.h"

namespace calque::ggml::inline CALQUE_ISA {
namespace {

// Bytes: 16 groups of 16; codes count from 0, the middle one (4 in Q3_K, 32 in Q6_K) stands for 0.

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

// Bit j of byte l of the mask is bit 2 of code 32 j + l.
void store_q3_k(const Block& block, std::byte* out) {
  for (int l = 0; l < 32; ++l) {
    int mask = 0;
    for (int j = 0; j < 8; ++j) mask |= block.codes[32 * j + l] >> 2 << j;
    set_byte(out + l, mask);
  }
  store_two_bits(block.codes, out + 32);
  store_six_bit_scales(block.scales, out + 96);
  store_half(block.step, out + 108);
}

void load_q3_k(const std::byte* bytes, Block& block) {
  load_two_bits(bytes + 32, block.codes);
  for (int j = 0; j < 8; ++j)
    for (int l = 0; l < 32; ++l)
      block.codes[32 * j + l] |= static_cast<std::uint8_t>((byte_at(bytes + l) >> j & 1) << 2);
  load_six_bit_scales(bytes + 96, block.scales);
  block.step = load_half(bytes + 108);
}

// In each half of 128: quarters 0 and 1 in the low nibbles of ql, 2 and 3 in the high ones; the
// high two bits of the four quarters side by side in qh.
void store_q6_k(const Block& block, std::byte* out) {
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

void load_q6_k(const std::byte* bytes, Block& block) {
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

// Rounding.

constexpr int kGroup = 16;
constexpr int kGroups = kSuper / kGroup;
using GroupBatch = Batch<kGroup>;

// The groups of the super-blocks of a strip, in order. The codes are those of the search (from 0),
// which stay where a stored scale becomes 0.
struct GroupFits {
  alignas(64) float scale[kLanes * 16] = {};
  alignas(64) float weight[kLanes * 16] = {};
  alignas(64) std::uint8_t codes[kLanes * kSuper];
};

Lanes<kGroup> codes_from_zero(const Lanes<kGroup>& x, Floats inverse, float limit) {
  Lanes<kGroup> codes;
  for (int i = 0; i < kGroup; ++i) codes[i] = symmetric_code(x[i], inverse, limit) + limit;
  return codes;
}

void keep(const GroupBatch& batch, Floats scale, const Lanes<kGroup>& codes, GroupFits& fits) {
  store(fits.scale + batch.first_group, scale);
  store_groups(codes, fits.codes + batch.first_group * kGroup);
}

void keep(const GroupBatch& batch, const Lanes<kGroup>& x, const SymmetricFit& fit, float limit,
          GroupFits& fits) {
  keep(batch, fit.scale, codes_from_zero(x, fit.inverse, limit), fits);
}

struct Levels {
  Floats step{};
  Lanes<kGroups> scales;
};

// The scale of largest magnitude becomes -lowest. Where that magnitude is at most `negligible`, the
// step is 0 and all scales are `none`.
Levels code_by_extreme(const Lanes<kGroups>& scales, float lowest, float highest, float negligible,
                       float none) {
  const Floats extreme = signed_extreme(scales);
  const Ints some = magnitude(extreme) > negligible;
  const Floats inverse = -lowest / extreme;
  Levels levels;
  levels.step = some ? 1.0f / inverse : Floats{};
  for (int j = 0; j < kGroups; ++j) {
    const Floats code = nearest_code(inverse * scales[j], broadcast(-lowest), broadcast(highest));
    levels.scales[j] = some ? code : broadcast(none);
  }
  return levels;
}

struct Q3K {
  static constexpr bool kClearsEmptyBlocks = false;
  static constexpr Type kType = Type::kQ3_K;
  static constexpr int kBytes = block_bytes(kType);
  static constexpr float kMiddle = 4;
  static constexpr auto store = store_q3_k;
  static constexpr auto load = load_q3_k;

  static void fit_groups(const Strip& strip, GroupFits& fits) {
    if (!strip.importance) return fit_plain(strip, fits);
    const Floats variances = 2.0f * super_block_energies(strip) / static_cast<float>(kSuper);
    for_each_batch<kGroup>(strip, [&](const GroupBatch& batch) {
      const auto x = batch.load_from(strip.values);
      const auto w =
          element_weights(x, batch.load_from(strip.importance), spread(variances, batch));
      ggml::store(fits.weight + batch.first_group, total(w));
      keep(batch, x, fit_symmetric(x, w, kMiddle), kMiddle, fits);
    });
  }

  static void fit_plain(const Strip& strip, GroupFits& fits) {
    for_each_batch<kGroup>(strip, [&](const GroupBatch& batch) {
      CodedFit<kGroup> fit = fit_symmetric_by_codes(batch.load_from(strip.values), kMiddle);
      for (int i = 0; i < kGroup; ++i) fit.codes[i] += kMiddle;
      keep(batch, fit.scale, fit.codes, fits);
    });
  }

  static Levels code_levels(const GroupFits& fits, bool weighted) {
    const auto scales = gather_groups<kGroups>(fits.scale);
    if (!weighted) return code_by_extreme(scales, 32, 31, 0, -32);
    const SymmetricFit fit = fit_symmetric(scales, gather_groups<kGroups>(fits.weight), 32);
    Levels levels;
    levels.step = fit.scale;
    for (int j = 0; j < kGroups; ++j) levels.scales[j] = symmetric_code(scales[j], fit.inverse, 32);
    return levels;
  }
};

struct Q6K {
  // A block without a step is all zero bytes, whatever codes the search found.
  static constexpr bool kClearsEmptyBlocks = true;
  static constexpr Type kType = Type::kQ6_K;
  static constexpr int kBytes = block_bytes(kType);
  static constexpr float kMiddle = 32;
  static constexpr auto store = store_q6_k;
  static constexpr auto load = load_q6_k;

  static void fit_groups(const Strip& strip, GroupFits& fits) {
    for_each_batch<kGroup>(strip, [&](const GroupBatch& batch) {
      const auto x = batch.load_from(strip.values);
      const auto w = strip.importance ? batch.load_from(strip.importance) : squares(x);
      keep(batch, x, fit_symmetric(x, w, kMiddle), kMiddle, fits);
    });
  }

  static Levels code_levels(const GroupFits& fits, bool) {
    return code_by_extreme(gather_groups<kGroups>(fits.scale), 128, 127, kZeroGroup, 0);
  }
};

void round_group(const float* x, float scale, float middle, std::uint8_t* codes) {
  for (int i = 0; i < kGroup; i += kLanes) {
    const Floats real = load(x + i) / scale;
    store_codes(nearest_code(real, broadcast(-middle), broadcast(middle - 1)) + middle, codes + i);
  }
}

template <typename T>
Block round_block(const float* x, const Levels& levels, int s, const GroupFits& fits) {
  Block block;
  block.step = half_value(levels.step[s]);
  const bool clear = T::kClearsEmptyBlocks && levels.step[s] == 0;
  if (clear)
    std::memset(block.codes, 0, kSuper);
  else
    std::memcpy(block.codes, fits.codes + s * kSuper, kSuper);
  for (int j = 0; j < kGroups; ++j) {
    block.scales[j] = static_cast<std::int8_t>(levels.scales[j][s]);
    const float scale = block.step * levels.scales[j][s];
    if (scale != 0) round_group(x + j * kGroup, scale, T::kMiddle, block.codes + j * kGroup);
  }
  return block;
}

template <typename T>
void quantize(const Row& row, std::byte* out) {
  for_each_strip(row, kSuper, [&](const Strip& strip, Index first) {
    GroupFits fits;
    T::fit_groups(strip, fits);
    const Levels levels = T::code_levels(fits, strip.importance != nullptr);
    for (int s = 0; s < strip.blocks; ++s)
      T::store(round_block<T>(strip.values + s * kSuper, levels, s, fits),
               out + (first + s) * static_cast<Index>(T::kBytes));
  });
}

template <typename T>
void dequantize(const std::byte* bytes, Index columns, float* values) {
  for (Index k = 0; k < columns; k += kSuper, bytes += T::kBytes) {
    Block block;
    T::load(bytes, block);
    for (int i = 0; i < kSuper; ++i) {
      const float scale = block.step * static_cast<float>(block.scales[i / kGroup]);
      values[k + i] = scale * (static_cast<float>(block.codes[i]) - T::kMiddle);
    }
  }
}

template <typename T>
constexpr Codec symmetric_codec() {
  return {T::kType, quantize<T>, dequantize<T>, T::load, T::store};
}

}  // namespace

const Codec* find_symmetric_k(Type type) {
  static constexpr Codec kTable[] = {symmetric_codec<Q3K>(), symmetric_codec<Q6K>()};
  for (const Codec& codec : kTable)
    if (codec.type == type) return &codec;
  return nullptr;
}

}  // namespace calque::ggml::inline CALQUE_ISA
