#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <type_traits>

#ifdef __x86_64__
#include <immintrin.h>
#endif

// Vectors of fp32 numbers: arithmetic is the compiler's (+, <, ?: work lane by lane), and here is
// what it lacks. A vector may be wider than a register; the compiler then uses several.
//
// Code that is compiled a second time, for AVX-512, then has CALQUE_ISA defined as `avx512`
// (calque_avx512_copy in src/CMakeLists.txt). Its entries, and these functions, live in an inline
// namespace of that name: with one name for both copies the linker would keep either for all.
#ifndef CALQUE_ISA
#define CALQUE_ISA common
#endif

namespace calque::simd::inline CALQUE_ISA {

// fp32 numbers in one register of the instruction set that this is compiled for.
#if defined(__AVX512F__)
constexpr int kRegisterLanes = 16;
#elif defined(__AVX__)
constexpr int kRegisterLanes = 8;
#else
constexpr int kRegisterLanes = 4;
#endif

// typedef, as g++ ignores a size that depends on a parameter in `using`.
template <int Lanes>
struct VectorTypes {
  typedef float Floats __attribute__((vector_size(4 * Lanes)));
  typedef std::int32_t Ints __attribute__((vector_size(4 * Lanes)));
  typedef std::uint8_t Bytes __attribute__((vector_size(Lanes)));
};
template <int Lanes>
using Floats = typename VectorTypes<Lanes>::Floats;
template <int Lanes>
using Ints = typename VectorTypes<Lanes>::Ints;
template <int Lanes>
using Bytes = typename VectorTypes<Lanes>::Bytes;

template <typename V>
constexpr int kLanesOf = static_cast<int>(sizeof(V) / 4);
// The integers of as many lanes: what comparisons give (-1 or 0), indices, bit patterns.
template <typename V>
using IntsOf = Ints<kLanesOf<V>>;

template <typename V>
inline V load(const float* p) {
  V v;
  std::memcpy(&v, p, sizeof(v));
  return v;
}
template <typename V>
inline void store(float* p, V v) {
  std::memcpy(p, &v, sizeof(v));
}
template <typename V>
inline V broadcast(float x) {
  return x - V{};
}

// The first `count` floats at p; `filler` in the other lanes.
template <typename V>
inline V load_part(const float* p, std::ptrdiff_t count, float filler) {
  if (count == kLanesOf<V>) return load<V>(p);
  V v = broadcast<V>(filler);
  std::memcpy(&v, p, static_cast<std::size_t>(count) * sizeof(float));
  return v;
}

// Calls operation(v, w) for each half: g++ 12 takes a vector of two registers apart to single lanes
// wherever it has to choose between two.
template <typename V, typename Operation>
inline V by_halves(V v, V w, Operation operation) {
  using Half = Floats<kLanesOf<V> / 2>;
  struct Halves {
    Half low, high;
  };
  Halves a, b;
  std::memcpy(&a, &v, sizeof(v));
  std::memcpy(&b, &w, sizeof(w));
  a = {operation(a.low, b.low), operation(a.high, b.high)};
  std::memcpy(&v, &a, sizeof(v));
  return v;
}

// at_least: v > bound ? v : bound, so a NaN lane becomes the bound; at_most likewise. These are
// exactly x86's maximum and minimum, which return their second operand for a NaN and for two zeros.
// g++ 12 finds neither them nor the square root of a whole register, and warns of its own header's
// unmasked forms.
template <typename V>
inline V at_least(V v, std::type_identity_t<V> bound) {
#ifdef __AVX512F__
  if constexpr (sizeof(V) == 64) return _mm512_maskz_max_ps(0xffff, v, bound);
#elif defined(__AVX__)
  if constexpr (sizeof(V) == 64)
    return by_halves(v, bound, [](auto a, auto b) { return at_least(a, b); });
#endif
#ifdef __AVX__
  if constexpr (sizeof(V) == 32) return _mm256_max_ps(v, bound);
#endif
#ifdef __x86_64__
  if constexpr (sizeof(V) == 16) return _mm_max_ps(v, bound);
#endif
  return v > bound ? v : bound;
}

template <typename V>
inline V at_most(V v, std::type_identity_t<V> bound) {
#ifdef __AVX512F__
  if constexpr (sizeof(V) == 64) return _mm512_maskz_min_ps(0xffff, v, bound);
#elif defined(__AVX__)
  if constexpr (sizeof(V) == 64)
    return by_halves(v, bound, [](auto a, auto b) { return at_most(a, b); });
#endif
#ifdef __AVX__
  if constexpr (sizeof(V) == 32) return _mm256_min_ps(v, bound);
#endif
#ifdef __x86_64__
  if constexpr (sizeof(V) == 16) return _mm_min_ps(v, bound);
#endif
  return v < bound ? v : bound;
}

template <typename V>
inline V square_root(V v) {
#ifdef __AVX512F__
  if constexpr (sizeof(V) == 64) return _mm512_maskz_sqrt_ps(0xffff, v);
#endif
#ifdef __AVX__
  if constexpr (sizeof(V) == 32) return _mm256_sqrt_ps(v);
#endif
#ifdef __x86_64__
  if constexpr (sizeof(V) == 16) return _mm_sqrt_ps(v);
#endif
  V root{};
  for (int lane = 0; lane < kLanesOf<V>; ++lane) root[lane] = __builtin_sqrtf(v[lane]);
  return root;
}

template <typename V>
inline V magnitude(V v) {
  constexpr std::int32_t kAllButSign = 0x7fffffff;
  return reinterpret_cast<V>(reinterpret_cast<IntsOf<V>>(v) & kAllButSign);
}

// Towards zero, for |v| < 2^31.
template <typename V>
inline V truncated(V v) {
  return __builtin_convertvector(__builtin_convertvector(v, IntsOf<V>), V);
}

// The nearest integer, ties to even, for |v| < 2^22: at 1.5 * 2^23 the last bit of a float is one.
template <typename V>
inline V round_even(V v) {
  constexpr float kOnes = 0x1.8p23f;
  return (v + kOnes) - kOnes;
}

// The nearest integer in [lowest, highest], both integers themselves; NaN becomes the lowest.
template <typename V>
inline V nearest_code(V v, std::type_identity_t<V> lowest, std::type_identity_t<V> highest) {
  return round_even(at_most(at_least(v, lowest), highest));
}

// Bit i: whether lane i is above zero.
template <typename V>
inline unsigned positive_lanes(V v) {
#ifdef __AVX512F__
  if constexpr (sizeof(V) == 64) return _mm512_cmp_ps_mask(v, _mm512_setzero_ps(), _CMP_GT_OQ);
#elif defined(__AVX__)
  if constexpr (sizeof(V) == 64) {
    Floats<kLanesOf<V> / 2> halves[2];
    std::memcpy(halves, &v, sizeof(v));
    return positive_lanes(halves[0]) | positive_lanes(halves[1]) << 8;
  }
  if constexpr (sizeof(V) == 32)
    return static_cast<unsigned>(
        _mm256_movemask_ps(_mm256_cmp_ps(v, _mm256_setzero_ps(), _CMP_GT_OQ)));
#endif
  const auto positive = v > V{};
  unsigned lanes = 0;
  for (int lane = 0; lane < kLanesOf<V>; ++lane)
    lanes |= (static_cast<unsigned>(positive[lane]) & 1u) << lane;
  return lanes;
}

// True if a comparison holds in any lane.
template <typename I>
inline bool any(I mask) {
  std::int32_t found = 0;
  for (int lane = 0; lane < kLanesOf<I>; ++lane) found |= mask[lane];
  return found != 0;
}

// The sum of the lanes, first to last.
template <typename V>
inline float sum(V v) {
  float total = 0;
  for (int lane = 0; lane < kLanesOf<V>; ++lane) total += v[lane];
  return total;
}

// Lane i of the result is lane index[i] of a followed by b.
template <typename V>
inline V shuffle(V a, V b, IntsOf<V> index) {
#ifdef __clang__  // lacks a shuffle whose indices are no constants
  constexpr int kLanes = kLanesOf<V>;
  V result{};
  for (int lane = 0; lane < kLanes; ++lane) {
    const int from = index[lane];
    result[lane] = from < kLanes ? a[from] : b[from - kLanes];
  }
  return result;
#else
  return __builtin_shuffle(a, b, index);
#endif
}

// Exchanges the off-diagonal quarters of every 2 Step x 2 Step square of rows a and b.
template <int Step, typename V>
inline void exchange(V& a, V& b) {
  constexpr int kLanes = kLanesOf<V>;
  IntsOf<V> low, high;
  for (int lane = 0; lane < kLanes; ++lane) {
    const bool upper = (lane & Step) != 0;
    low[lane] = upper ? kLanes + lane - Step : lane;
    high[lane] = upper ? kLanes + lane : lane + Step;
  }
  const V first = shuffle(a, b, low);
  b = shuffle(a, b, high);
  a = first;
}

// Transposes the square of as many rows as a row has lanes.
template <int Step = 1, typename V>
inline void transpose(V* rows) {
  for (int r = 0; r < kLanesOf<V>; ++r)
    if ((r & Step) == 0) exchange<Step>(rows[r], rows[r + Step]);
  if constexpr (2 * Step < kLanesOf<V>) transpose<2 * Step>(rows);
}

// Sum of a[k] * b[k] in double: eight partial sums, of every eighth product each, added in order.
inline double dot_in_double(const float* a, const float* b, std::ptrdiff_t count) {
  using Doubles = double __attribute__((vector_size(64)));
  using Eight = Floats<8>;
  Doubles lanes{};
  std::ptrdiff_t k = 0;
  for (; k + 8 <= count; k += 8)
    lanes += __builtin_convertvector(load<Eight>(a + k), Doubles) *
             __builtin_convertvector(load<Eight>(b + k), Doubles);
  for (int lane = 0; k < count; ++k, ++lane) lanes[lane] += static_cast<double>(a[k]) * b[k];
  double total = 0;
  for (int lane = 0; lane < 8; ++lane) total += lanes[lane];
  return total;
}

}  // namespace calque::simd::inline CALQUE_ISA
