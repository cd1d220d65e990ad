// Codes that stand for vectors of four or eight columns: IQ1, IQ2 and IQ3.
#include "ggml/types/vector_bytes.h"
#include "ggml/types/vector_magnitudes.h"
#include "ggml/types/vector_ternary.h"

namespace calque::ggml::inline CALQUE_ISA {
namespace {

// Values of one vector of eight columns; exact, as a step, a scale and a level have 22 bits at
// most.
template <typename V>
void decode_eight(const VectorBlock& block, int eight, float* values) {
  static constexpr auto kValues = point_values<V>();
  constexpr int kLength = V::kGrid.kLength;
  const float scale =
      block.step * V::kUnit * static_cast<float>(2 * block.scales[eight * 8 / V::kGroup] + 1);
  const int signs = block.signs[eight];
  for (int e = 0; e < 8; ++e) {
    const auto point = static_cast<std::size_t>(block.points[(8 * eight + e) / kLength]);
    const float value = kValues[point][static_cast<std::size_t>(e % kLength)];
    if constexpr (V::kLevels[0] < 0)
      values[e] = scale * (value + (signs != 0 ? -kShift : kShift));
    else
      values[e] = (signs >> e & 1) != 0 ? -(scale * value) : scale * value;
  }
}

template <typename V>
void dequantize_vectors(const std::byte* bytes, Index columns, float* values) {
  for (Index k = 0; k < columns; k += kSuper, bytes += block_bytes(V::kType)) {
    VectorBlock block;
    V::load(bytes, block);
    for (int eight = 0; eight < kSuper / 8; ++eight)
      decode_eight<V>(block, eight, values + k + 8 * eight);
  }
}

template <typename V>
constexpr bool kTernary = V::kLevels[0] < 0;

template <typename V>
Lanes<V::kGroup> weights_of(const Strip& strip, const Batch<V::kGroup>& batch,
                            const Lanes<V::kGroup>& x, Floats variances) {
  const Floats variance = spread(variances, batch);
  if (strip.importance) return element_weights(x, batch.load_from(strip.importance), variance);
  Lanes<V::kGroup> w = squares(x);
  for (Floats& element : w.at) {
    if constexpr (V::kPlainWeight == PlainWeight::kNone) element = square_root(variance + element);
    if constexpr (V::kPlainWeight == PlainWeight::kSquareAndQuarterVariance)
      element = 0.25f * variance + element;
  }
  return w;
}

// Weights too small for a scale. The types whose signs are even have nothing in such a block, and
// the ternary ones no shifts.
template <typename V>
void clear(VectorBlock& block) {
  block.step = 0;
  std::fill(std::begin(block.scales), std::end(block.scales), std::uint8_t{0});
  if constexpr (kTernary<V> || V::kEvenSigns)
    std::fill(std::begin(block.signs), std::end(block.signs), std::uint8_t{0});
  if constexpr (!kTernary<V> && V::kEvenSigns)
    std::fill(std::begin(block.points), std::end(block.points), std::uint16_t{0});
}

// The step and the scales' codes; false if there is none.
template <typename V>
bool code_scales(const float* scales, VectorBlock& block) {
  constexpr int kGroups = kSuper / V::kGroup;
  float largest = 0;
  for (int j = 0; j < kGroups; ++j) largest = scales[j] > largest ? scales[j] : largest;
  if (!(largest > 0)) {
    clear<V>(block);
    return false;
  }
  block.step = largest / static_cast<float>(2 * V::kScaleCodes - 1);
  const float inverse = 1 / block.step;
  for (int j = 0; j < kGroups; ++j) {
    const Floats code = nearest_code(broadcast(0.5f * (inverse * scales[j] - 1)), Floats{},
                                     broadcast(static_cast<float>(V::kScaleCodes - 1)));
    block.scales[j] = static_cast<std::uint8_t>(code[0]);
  }
  return true;
}

// The step of least squares for the points and scales' codes of a block of IQ1_M.
template <typename V>
void fit_step(const float* x, const float* w, VectorBlock& block) {
  static constexpr auto kValues = point_values<V>();
  float A = 0, B = 0;
  for (int i = 0; i < kSuper; ++i) {
    const float level = kValues[block.points[i / 8]][static_cast<std::size_t>(i % 8)] +
                        (block.signs[i / 8] != 0 ? -kShift : kShift);
    const float q = level * static_cast<float>(2 * block.scales[i / V::kGroup] + 1);
    A += w[i] * q * x[i];
    B += w[i] * q * q;
  }
  if (B > 0) block.step = A / B;
}

template <typename V>
void quantize_vectors(const Row& row, std::byte* out) {
  using Fit = std::conditional_t<kTernary<V>, TernaryFit<V>, MagnitudeFit<V>>;
  constexpr int kGroups = kSuper / V::kGroup;
  for_each_strip(row, kSuper, [&](const Strip& strip, Index first_block) {
    VectorBlock blocks[kLanes] = {};
    alignas(64) float scales[kLanes * kGroups];
    alignas(64) float weights[kLanes * kSuper];  // for IQ1_M
    const Floats variances =
        V::kVariance * super_block_energies(strip) / static_cast<float>(kSuper);
    for_each_batch<V::kGroup>(strip, [&](const Batch<V::kGroup>& batch) {
      const Lanes<V::kGroup> x = batch.load_from(strip.values);
      const Lanes<V::kGroup> w = weights_of<V>(strip, batch, x, variances);
      if constexpr (V::kType == Type::kIQ1_M)
        store_transposed(w, weights + batch.first_group * V::kGroup);
      const Fit fit(x, w);
      store(scales + batch.first_group, fit.scales());
      for (int lane = 0; lane < batch.groups; ++lane) {
        const int group = batch.first_group + lane;
        fit.store_group(lane, group % kGroups, blocks[group / kGroups]);
      }
    });
    for (int s = 0; s < strip.blocks; ++s) {
      const bool coded = code_scales<V>(scales + s * kGroups, blocks[s]);
      if constexpr (V::kType == Type::kIQ1_M)
        if (coded) fit_step<V>(strip.values + s * kSuper, weights + s * kSuper, blocks[s]);
      blocks[s].step *= V::kFudge;
      V::store(blocks[s], out + (first_block + s) * block_bytes(V::kType));
    }
  });
}

template <typename V>
constexpr auto points_in_a_row() {
  constexpr auto values = point_values<V>();
  constexpr std::size_t kLength = V::kGrid.kLength;
  std::array<float, values.size() * kLength> row{};
  for (std::size_t i = 0; i < row.size(); ++i) row[i] = values[i / kLength][i % kLength];
  return row;
}

template <typename V>
constexpr auto kPoints = points_in_a_row<V>();

template <typename V>
constexpr Index shift_columns() {
  if constexpr (kTernary<V>) return V::kShiftOfHalves ? 8 : V::kGroup;
  return 0;
}

template <typename V>
constexpr VectorStructure kVectors = {
    .length = V::kGrid.kLength,
    .group = V::kGroup,
    .super = kSuper,
    .scale_codes = V::kScaleCodes,
    .unit = V::kUnit,
    .points = kPoints<V>,
    .even_signs = V::kEvenSigns,
    .shift = kTernary<V> ? kShift : 0.0f,
    .shift_columns = shift_columns<V>(),
};

template <typename V>
constexpr Codec codec_of() {
  return {.type = V::kType,
          .quantize = quantize_vectors<V>,
          .dequantize = dequantize_vectors<V>,
          .vectors = &kVectors<V>,
          .load_vectors = V::load,
          .store_vectors = V::store};
}

}  // namespace

const Codec* find_vectors(Type type) {
  static constexpr Codec kTable[] = {codec_of<Iq2Xxs>(), codec_of<Iq2Xs>(), codec_of<Iq2S>(),
                                     codec_of<Iq3Xxs>(), codec_of<Iq3S>(),  codec_of<Iq1S>(),
                                     codec_of<Iq1M>()};
  for (const Codec& codec : kTable)
    if (codec.type == type) return &codec;
  return nullptr;
}

}  // namespace calque::ggml::inline CALQUE_ISA
