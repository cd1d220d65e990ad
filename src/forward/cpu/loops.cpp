#include "forward/cpu/loops.h"

#include <sleef.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cassert>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <numbers>
#include <span>

namespace calque::forward {
namespace {

// ---- Single numbers

constexpr float kLog2E = 1.44269504f;

// a * b + c, in one rounding where the processor does that in one instruction.
inline float multiply_add(float a, float b, float c) {
#ifdef __FMA__
  return std::fma(a, b, c);
#else
  return a * b + c;
#endif
}

// 2^x within 4 units in the last place, for x clamped to [-126, 126] (below, 2^x would be
// denormal). x = n + r with |r| <= 1/2, exactly; 2^r by the Taylor series of e^(r ln 2) to r^6: the
// next term is at most (ln 2 / 2)^7 / 7! = 2^-23 of the sum.
inline float power_of_two(float x) {
  constexpr float kOnes = 0x1.8p23f;  // added and taken away: rounds to the nearest integer
  x = x < -126.0f ? -126.0f : x;
  x = x > 126.0f ? 126.0f : x;
  const float shifted = x + kOnes;
  const float r = x - (shifted - kOnes);
  float series = 1.54035304e-4f;  // (ln 2)^k / k!, k = 6 .. 0
  series = multiply_add(series, r, 1.33335581e-3f);
  series = multiply_add(series, r, 9.61812911e-3f);
  series = multiply_add(series, r, 5.55041087e-2f);
  series = multiply_add(series, r, 2.40226507e-1f);
  series = multiply_add(series, r, 6.93147181e-1f);
  series = multiply_add(series, r, 1.0f);
  const std::uint32_t exponent = std::bit_cast<std::uint32_t>(shifted) << 23;  // n, modulo 2^9
  return std::bit_cast<float>(std::bit_cast<std::uint32_t>(series) + exponent);
}

// x times the logistic function of x. The rounding of x log2(e) moves e^-x by |x| 2^-24 of itself.
inline float silu(float x) { return x / (1.0f + power_of_two(-kLog2E * x)); }

// ---- Rows

// Sixteen partial sums: their order is fixed, and they fill an AVX-512 register.
inline float mean_square(const float* x, Index count) {
  constexpr Index kLanes = 16;
  std::array<float, kLanes> partial{};
  const Index whole = count - count % kLanes;
  for (Index i = 0; i < whole; i += kLanes)
    for (Index j = 0; j < kLanes; ++j) partial[static_cast<std::size_t>(j)] += x[i + j] * x[i + j];
  float sum = 0;
  for (const float lane : partial) sum += lane;
  for (Index i = whole; i < count; ++i) sum += x[i] * x[i];
  return sum / static_cast<float>(count);
}

template <typename T>
void rms_norm_row(const float* x, const NormWeight& norm, Index count, T* out) {
  const float inverse = 1.0f / std::sqrt(mean_square(x, count) + norm.eps);
  const float* const weight = norm.weight_1N.data();
  if (weight == nullptr) {
    for (Index i = 0; i < count; ++i) store(x[i] * inverse, out[i]);
    return;
  }
  for (Index i = 0; i < count; ++i) store(x[i] * inverse * (norm.offset + weight[i]), out[i]);
}

template <typename T>
void rms_norm(MatrixView<const float> x_TH, const NormWeight& norm, MatrixView<T> out_TH) {
  for (Index t = 0; t < x_TH.rows(); ++t)
    rms_norm_row(x_TH.row(t), norm, x_TH.cols(), out_TH.row(t));
}

template <typename T>
void widen(MatrixView<const T> values_TH, MatrixView<float> out_TH) {
  for (Index t = 0; t < out_TH.rows(); ++t)
    for (Index i = 0; i < out_TH.cols(); ++i) out_TH(t, i) = widened(values_TH(t, i));
}

template <typename T>
void add(MatrixView<const T> values_TH, MatrixView<float> sum_TH) {
  for (Index t = 0; t < sum_TH.rows(); ++t) {
    const T* const from = values_TH.row(t);
    float* const to = sum_TH.row(t);
    for (Index i = 0; i < sum_TH.cols(); ++i) to[i] += widened(from[i]);
  }
}

// ---- Softmax

// Four AVX-512 registers of independent sums, or largest values: as many as hide the instructions'
// latency.
constexpr Index kSums = 64;
using Sums = std::array<float, kSums>;

constexpr float kLowest = -std::numeric_limits<float>::infinity();

// The `count` values that are left after whole lanes, and then the lowest number.
Sums padded(const float* values, Index count) {
  Sums lanes;
  lanes.fill(kLowest);
  std::copy_n(values, count, lanes.begin());
  return lanes;
}

void keep_largest(const float* values, Sums& largest) {
  for (std::size_t j = 0; j < kSums; ++j)
    largest[j] = values[j] > largest[j] ? values[j] : largest[j];
}

float largest_of(const float* values, Index count) {
  Sums largest;
  largest.fill(kLowest);
  const Index whole = count - count % kSums;
  for (Index i = 0; i < whole; i += kSums) keep_largest(values + i, largest);
  keep_largest(padded(values + whole, count - whole).data(), largest);
  return *std::max_element(largest.begin(), largest.end());
}

// weights = 2^(factor score + offset), rounded to T, and added to `sums`.
template <typename T>
void soften_lanes(const float* scores, float factor, float offset, T* weights, Sums& sums) {
  for (std::size_t j = 0; j < kSums; ++j) {
    T weight;
    store(power_of_two(multiply_add(scores[j], factor, offset)), weight);
    weights[j] = weight;
    sums[j] += widened(weight);
  }
}

template <typename T>
float soften(const float* scores, Index count, float scale, float sink, T* weights) {
  const float factor = scale * kLog2E;
  const float offset = -factor * largest_of(scores, count);
  Sums sums{};
  const Index whole = count - count % kSums;
  for (Index i = 0; i < whole; i += kSums)
    soften_lanes(scores + i, factor, offset, weights + i, sums);
  std::array<T, kSums> rest;
  Sums of_rest{};
  soften_lanes(padded(scores + whole, count - whole).data(), factor, offset, rest.data(), of_rest);
  std::copy_n(rest.begin(), count - whole, weights + whole);
  for (Index j = 0; j < count - whole; ++j)
    sums[static_cast<std::size_t>(j)] += of_rest[static_cast<std::size_t>(j)];
  float sum = 0;
  for (const float lane : sums) sum += lane;
  // Without a sink 2^-126, which the sum's last bit exceeds: the largest score weighs one.
  return sum + power_of_two(multiply_add(sink, kLog2E, offset));
}

// ---- Hyperbolic tangents

// Sleef's tanh within 1 unit in the last place, whose results are PyTorch's and the same for every
// width of register with fused multiply-add (tests/forward/loops_test.cpp).
#if defined(__AVX512F__)
using Register = __m512;
Register tanh_of(Register x) { return Sleef_tanhf16_u10(x); }
#elif defined(__AVX2__)
using Register = __m256;
Register tanh_of(Register x) { return Sleef_tanhf8_u10(x); }
#else
using Register = float;
Register tanh_of(Register x) { return Sleef_tanhf_u10(x); }
#endif

// As many at a time on every machine: what is left of a matrix may be computed otherwise.
constexpr Index kLanes = 16;
using Lanes = std::array<float, kLanes>;

Lanes tanh_of(const Lanes& values) {
  constexpr std::size_t kStep = sizeof(Register) / sizeof(float);
  Lanes result;
  for (std::size_t i = 0; i < kLanes; i += kStep) {
    Register part;
    std::memcpy(&part, values.data() + i, sizeof(part));
    part = tanh_of(part);
    std::memcpy(result.data() + i, &part, sizeof(part));
  }
  return result;
}

// values = after(value, tanh(before(value))), whole lanes of them; returns how many these are.
template <typename T, typename Before, typename After>
Index through_tanh(std::span<T> values, Before before, After after) {
  const std::size_t whole = values.size() - values.size() % kLanes;
  for (std::size_t i = 0; i < whole; i += kLanes) {
    Lanes lanes;
    for (std::size_t j = 0; j < kLanes; ++j) lanes[j] = before(widened(values[i + j]));
    lanes = tanh_of(lanes);
    for (std::size_t j = 0; j < kLanes; ++j)
      store(after(widened(values[i + j]), lanes[j]), values[i + j]);
  }
  return static_cast<Index>(whole);
}

template <typename T>
std::span<T> all_of(MatrixView<T> matrix) {
  assert(matrix.rows() <= 1 || matrix.stride() == matrix.cols());
  return {matrix.data(), static_cast<std::size_t>(matrix.size())};
}

template <typename Before>
void cap_all(float cap, std::span<float> values, Before before) {
  const auto after = [cap](float, float tanh) { return tanh * cap; };
  const auto whole = static_cast<std::size_t>(through_tanh(values, before, after));
  Lanes rest{};
  const std::size_t count = values.size() - whole;
  std::copy_n(values.begin() + static_cast<std::ptrdiff_t>(whole), count, rest.begin());
  through_tanh(std::span<float>(rest), before, after);
  std::copy_n(rest.begin(), count, values.begin() + static_cast<std::ptrdiff_t>(whole));
}

void cap_scores(float scale, float cap, MatrixView<float> scores) {
  cap_all(cap, all_of(scores), [factor = scale / cap](float score) { return score * factor; });
}

void cap_logits(float cap, MatrixView<float> logits) {
  cap_all(cap, all_of(logits), [cap](float logit) { return logit / cap; });
}

// ---- Gates

constexpr auto kBeta = static_cast<float>(std::numbers::sqrt2 * std::numbers::inv_sqrtpi);
constexpr float kKappa = 0.044715f;

// gelu(x) = x / 2 (1 + tanh(beta (x + kappa x^3))), beta = sqrt(2 / pi).
float inner_of(float x) { return kBeta * multiply_add(kKappa, x * x * x, x); }
float gelu_of(float x, float tanh) { return 0.5f * x * (1.0f + tanh); }

// In bf16 every step is rounded.
float rounded(float x) { return rounded_to_bfloat16(x); }
float inner_in_bf16(float x) {
  const float cube = rounded(rounded(x * x) * x);
  return rounded(rounded(kBeta) * rounded(x + rounded(rounded(kKappa) * cube)));
}
float gelu_in_bf16(float x, float tanh) {
  return rounded(0.5f * x) * rounded(1.0f + rounded(tanh));
}

void gelu(std::span<float> values) {
  const auto whole = static_cast<std::size_t>(through_tanh(values, inner_of, gelu_of));
  // PyTorch takes the C library's function for what is left of whole vectors.
  for (float& x : values.subspan(whole)) x = gelu_of(x, std::tanh(inner_of(x)));
}

// All 65,536 results are the same with either tanh.
void gelu(std::span<BFloat16> values) {
  const auto whole = static_cast<std::size_t>(through_tanh(values, inner_in_bf16, gelu_in_bf16));
  for (BFloat16& x : values.subspan(whole))
    store(gelu_in_bf16(widened(x), std::tanh(inner_in_bf16(widened(x)))), x);
}

template <typename T>
void multiply_by(MatrixView<const T> up_TN, MatrixView<T> gate_TN) {
  for (Index t = 0; t < gate_TN.rows(); ++t)
    for (Index i = 0; i < gate_TN.cols(); ++i)
      store(widened(gate_TN(t, i)) * widened(up_TN(t, i)), gate_TN(t, i));
}

template <typename T>
void gate_with_silu(MatrixView<const T> up_TN, MatrixView<T> gate_TN) {
  for (Index t = 0; t < gate_TN.rows(); ++t) {
    const T* const up = up_TN.row(t);
    T* const gate = gate_TN.row(t);
    for (Index i = 0; i < gate_TN.cols(); ++i)
      store(silu(widened(gate[i])) * widened(up[i]), gate[i]);
  }
}

inline float sigmoid(float x) { return 1.0f / (1.0f + power_of_two(-kLog2E * x)); }

template <typename T>
void gate_clamped(float limit, float slope, MatrixView<const T> up_TN, MatrixView<T> gate_TN) {
  for (Index t = 0; t < gate_TN.rows(); ++t) {
    const T* const up = up_TN.row(t);
    T* const gate = gate_TN.row(t);
    for (Index i = 0; i < gate_TN.cols(); ++i) {
      float g = widened(gate[i]), u = widened(up[i]);
      g = g > limit ? limit : g;
      u = u > limit ? limit : u;
      u = u < -limit ? -limit : u;
      store((u + 1.0f) * g * sigmoid(slope * g), gate[i]);
    }
  }
}

template <typename T>
void gate(const std::string& act, MatrixView<const T> up_TN, MatrixView<T> gate_TN) {
  if (act == "silu") return gate_with_silu(up_TN, gate_TN);
  gelu(all_of(gate_TN));
  multiply_by(up_TN, gate_TN);
}

template <typename T>
void gate_by_sigmoid(MatrixView<const T> gate_TN, MatrixView<T> values_TN) {
  for (Index t = 0; t < values_TN.rows(); ++t) {
    const T* const gate = gate_TN.row(t);
    T* const values = values_TN.row(t);
    for (Index i = 0; i < values_TN.cols(); ++i)
      store(widened(values[i]) * sigmoid(widened(gate[i])), values[i]);
  }
}

template <typename T>
void norm_and_gate(MatrixView<const float> x_TN, const NormWeight& norm,
                   MatrixView<const T> gate_TN, MatrixView<T> out_TN) {
  const float* const weight = norm.weight_1N.data();
  for (Index t = 0; t < x_TN.rows(); ++t) {
    const float* const x = x_TN.row(t);
    const T* const gate = gate_TN.row(t);
    T* const out = out_TN.row(t);
    const float inverse = 1.0f / std::sqrt(mean_square(x, x_TN.cols()) + norm.eps);
    for (Index i = 0; i < x_TN.cols(); ++i)
      store(x[i] * inverse * (norm.offset + weight[i]) * silu(widened(gate[i])), out[i]);
  }
}

// ---- Delta nets

template <typename T>
void convolve(MatrixView<const T> x_SN, MatrixView<const float> taps_JN, MatrixView<float> out_TN) {
  constexpr Index kStrip = 512;  // channels whose sums stay in the first-level cache
  for (Index t = 0; t < out_TN.rows(); ++t)
    for (Index first = 0; first < out_TN.cols(); first += kStrip) {
      const Index count = std::min(kStrip, out_TN.cols() - first);
      float* const out = out_TN.row(t) + first;
      std::fill_n(out, count, 0.0f);
      for (Index j = 0; j < taps_JN.rows(); ++j) {
        const T* const x = x_SN.row(t + j) + first;
        const float* const taps = taps_JN.row(j) + first;
        for (Index i = 0; i < count; ++i) out[i] = multiply_add(widened(x[i]), taps[i], out[i]);
      }
      for (Index i = 0; i < count; ++i) out[i] = silu(out[i]);
    }
}

// Differences of sums are taken in double: sums may be large where neighbours differ little.
void weigh_scores(MatrixView<const float> scores, const double* decays, const float* rates,
                  MatrixView<float> weights) {
  const Index count = scores.cols();
  for (Index t = 0; t < count; ++t) {
    const float* const of_query = scores.row(t);
    const float* const of_key = scores.row(count + t);
    float* const query_weights = weights.row(t);
    float* const key_weights = weights.row(count + t);
    for (Index j = 0; j <= t; ++j) {
      const float decay = power_of_two(kLog2E * static_cast<float>(decays[t] - decays[j]));
      query_weights[j] = decay * of_query[j];
      key_weights[j] = decay * rates[t] * of_key[j];
    }
    std::fill_n(query_weights + t + 1, count - t - 1, 0.0f);
    std::fill_n(key_weights + t + 1, count - t - 1, 0.0f);
  }
}

// As many columns at a time as four registers hold.
void substitute(MatrixView<const float> lower_CC, MatrixView<float> values_CN) {
  constexpr Index kColumns = 64;
  for (Index first = 0; first < values_CN.cols(); first += kColumns) {
    const Index columns = std::min(kColumns, values_CN.cols() - first);
    for (Index t = 1; t < values_CN.rows(); ++t) {
      std::array<float, kColumns> sums{};
      float* const to = values_CN.row(t) + first;
      std::copy_n(to, columns, sums.begin());
      const float* const factors = lower_CC.row(t);
      for (Index j = 0; j < t; ++j) {
        const float* const from = values_CN.row(j) + first;
        if (columns == kColumns)
          for (std::size_t i = 0; i < kColumns; ++i)
            sums[i] = multiply_add(-factors[j], from[i], sums[i]);
        else
          for (Index i = 0; i < columns; ++i) {
            float& sum = sums[static_cast<std::size_t>(i)];
            sum = multiply_add(-factors[j], from[i], sum);
          }
      }
      std::copy_n(sums.begin(), columns, to);
    }
  }
}

// ---- Weights in the order in which products read them

// Two neighbouring columns of a row as bf16, the first in the low half.
inline std::uint32_t pair_of(float first, float second) {
  return to_bfloat16(first).bits | static_cast<std::uint32_t>(to_bfloat16(second).bits) << 16;
}

// Pairs are made row by row in a buffer that fits the first-level cache, and leave it column by
// column.
void pack_pairs(MatrixView<const float> weight_NK, Index strip, Index pairs, BFloat16* out) {
  static_assert(sizeof(BFloat16) == 2 && std::endian::native == std::endian::little);
  constexpr Index kPairs = 32;
  alignas(64) std::uint32_t buffer[kMostStrip][kPairs];
  assert(strip <= kMostStrip && 2 * pairs >= weight_NK.cols());
  for (Index n = 0; n < weight_NK.rows(); n += strip)
    for (Index p = 0; p < pairs; p += kPairs) {
      const Index rows = std::min(strip, weight_NK.rows() - n);
      const Index count = std::min(kPairs, pairs - p);
      const Index columns = std::clamp<Index>(weight_NK.cols() - 2 * p, 0, 2 * count);
      std::memset(buffer, 0, sizeof(buffer));
      for (Index r = 0; r < rows; ++r) {
        const float* const from = weight_NK.row(n + r) + 2 * p;
        for (Index i = 0; i < columns / 2; ++i)
          buffer[r][i] = pair_of(from[2 * i], from[2 * i + 1]);
        if (columns % 2 != 0) buffer[r][columns / 2] = pair_of(from[columns - 1], 0.0f);
      }
      BFloat16* to = out + 2 * (n * pairs + p * strip);
      for (Index i = 0; i < count; ++i)
        for (Index r = 0; r < strip; ++r, to += 2)
          std::memcpy(static_cast<void*>(to), &buffer[r][i], sizeof(buffer[r][i]));
    }
}

template <typename T>
constexpr LoopsOf<T> kLoopsOf = {rms_norm<T>,        widen<T>,         add<T>,
                                 soften<T>,          gate<T>,          gate_clamped<T>,
                                 gate_by_sigmoid<T>, norm_and_gate<T>, convolve<T>};

}  // namespace

inline namespace CALQUE_ISA {

const Loops& compiled_loops() {
  static constexpr Loops kLoops = {kLoopsOf<float>, kLoopsOf<BFloat16>, cap_scores, cap_logits,
                                   weigh_scores,    substitute,         pack_pairs};
  return kLoops;
}

}  // namespace CALQUE_ISA

}  // namespace calque::forward
