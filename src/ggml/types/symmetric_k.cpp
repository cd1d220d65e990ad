// Super-blocks of 256 in 16 groups with a signed scale: Q3_K and Q6_K (formats_gguf.md 2.2, 2.4,
// 3.6, 3.7).
#include "ggml/types/bytes.h"
#include "ggml/types/strip.h"
#include "ggml/types/symmetric_fit.h"
#include "ggml/types/symmetric_k_layout.h"

namespace calque::ggml::inline CALQUE_GGML_ISA {
namespace {

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
  static constexpr int kBytes = 110;
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
  static constexpr int kBytes = 210;
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
SymmetricBlock round_block(const float* x, const Levels& levels, int s, const GroupFits& fits) {
  SymmetricBlock block;
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
    SymmetricBlock block;
    T::load(bytes, block);
    for (int i = 0; i < kSuper; ++i) {
      const float scale = block.step * static_cast<float>(block.scales[i / kGroup]);
      values[k + i] = scale * (static_cast<float>(block.codes[i]) - T::kMiddle);
    }
  }
}

template <typename T>
Codec symmetric_codec(GgmlBlock type) {
  return {type, kSuper, T::kBytes, quantize<T>, dequantize<T>};
}

}  // namespace

const Codec* find_symmetric_k(GgmlBlock type) {
  static const Codec table[] = {symmetric_codec<Q3K>(GgmlBlock::kQ3_K),
                                symmetric_codec<Q6K>(GgmlBlock::kQ6_K)};
  for (const Codec& codec : table)
    if (codec.type == type) return &codec;
  return nullptr;
}

}  // namespace calque::ggml::inline CALQUE_GGML_ISA
