#pragma once

#include <cstddef>
#include <cstring>

#ifdef __AVX512F__
#include <immintrin.h>
#endif

namespace calque::cpu {

// Sixteen floats: one AVX-512 register, or as many smaller ones as the machine needs. The lanes are
// part of the arithmetic (sums go lane by lane), so results do not depend on the register width.
using Floats = float __attribute__((vector_size(64)));
constexpr int kLanes = 16;

inline Floats load(const float* p) {
  Floats v;
  std::memcpy(&v, p, sizeof(v));
  return v;
}
inline void store(float* p, Floats v) { std::memcpy(p, &v, sizeof(v)); }
inline Floats broadcast(float x) { return x - Floats{}; }

// The first `count` floats at p; `filler` in the other lanes.
inline Floats load_part(const float* p, std::ptrdiff_t count, float filler) {
  if (count == kLanes) return load(p);
  Floats v = broadcast(filler);
  std::memcpy(&v, p, static_cast<std::size_t>(count) * sizeof(float));
  return v;
}

// Bit i: whether lane i is above zero.
inline unsigned positive_lanes(Floats v) {
#ifdef __AVX512F__
  return _mm512_cmp_ps_mask(v, _mm512_setzero_ps(), _CMP_GT_OQ);
#else
  const auto positive = v > Floats{};
  unsigned lanes = 0;
  for (int lane = 0; lane < kLanes; ++lane) lanes |= (positive[lane] & 1u) << lane;
  return lanes;
#endif
}

// v > bound ? v : bound, so a NaN lane becomes the bound; at_most likewise. One instruction, which
// g++ 12 does not find by itself.
#ifdef __AVX512F__
constexpr __mmask16 kAllLanes = 0xffff;  // g++ 12 warns of its own header's unmasked forms
inline Floats at_least(Floats v, Floats bound) { return _mm512_maskz_max_ps(kAllLanes, v, bound); }
inline Floats at_most(Floats v, Floats bound) { return _mm512_maskz_min_ps(kAllLanes, v, bound); }
#else
inline Floats at_least(Floats v, Floats bound) { return v > bound ? v : bound; }
inline Floats at_most(Floats v, Floats bound) { return v < bound ? v : bound; }
#endif

// The nearest integer, ties to even, for |v| < 2^22: at 1.5 * 2^23 the last bit of a float is one.
inline Floats round_even(Floats v) {
  constexpr float kOnes = 0x1.8p23f;
  return (v + kOnes) - kOnes;
}

// The nearest integer in [lowest, highest], both integers themselves.
inline Floats nearest_code(Floats v, Floats lowest, Floats highest) {
  return round_even(at_most(at_least(v, lowest), highest));
}

inline float sum(Floats v) {
  float total = 0;
  for (int i = 0; i < kLanes; ++i) total += v[i];
  return total;
}

// Sum of a[k] * b[k] in double: eight partial sums, of every eighth product each, added in order.
inline double dot_in_double(const float* a, const float* b, std::ptrdiff_t count) {
  using Eight = float __attribute__((vector_size(32)));
  using Doubles = double __attribute__((vector_size(64)));
  Doubles lanes{};
  std::ptrdiff_t k = 0;
  for (; k + 8 <= count; k += 8) {
    Eight left, right;
    std::memcpy(&left, a + k, sizeof(left));
    std::memcpy(&right, b + k, sizeof(right));
    lanes += __builtin_convertvector(left, Doubles) * __builtin_convertvector(right, Doubles);
  }
  for (int lane = 0; k < count; ++k, ++lane) lanes[lane] += static_cast<double>(a[k]) * b[k];
  double total = 0;
  for (int lane = 0; lane < 8; ++lane) total += lanes[lane];
  return total;
}

}  // namespace calque::cpu
