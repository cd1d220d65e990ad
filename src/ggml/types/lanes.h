#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "ggml/types/floats.h"

// The reference quantizers sum the elements of a group one after another in fp32, so their bytes
// depend on that order. Here as many groups as a register has lanes advance side by side: the order
// within each group stays, and the arithmetic is that many times wider. Lanes never mix, so the
// bytes do not depend on the width.
namespace calque::ggml::inline CALQUE_GGML_ISA {

// Element i of kLanes groups of N.
template <int N>
struct Lanes {
  Floats at[N];
  Floats& operator[](int i) { return at[i]; }
  const Floats& operator[](int i) const { return at[i]; }
};

inline Floats load(const float* p) {
  Floats v;
  std::memcpy(&v, p, sizeof(v));
  return v;
}
inline void store(float* p, Floats v) { std::memcpy(p, &v, sizeof(v)); }
inline Floats broadcast(float x) { return x - Floats{}; }

// The nearest integer in [lowest, highest], both integers themselves; ties to even. At 1.5 * 2^23
// the last bit of a float is one.
inline Floats nearest_code(Floats v, Floats lowest, Floats highest) {
  constexpr float kOnes = 0x1.8p23f;
  return (at_most(at_least(v, lowest), highest) + kOnes) - kOnes;
}

inline Floats magnitude(Floats v) {
  constexpr std::int32_t kAllButSign = 0x7fffffff;
  return reinterpret_cast<Floats>(reinterpret_cast<Ints>(v) & kAllButSign);
}

inline Floats truncated(Floats v) {
  return __builtin_convertvector(__builtin_convertvector(v, Ints), Floats);
}

inline bool any(Ints mask) {
  std::int32_t found = 0;
  for (int lane = 0; lane < kLanes; ++lane) found |= mask[lane];
  return found != 0;
}

// Exchanges the off-diagonal quarters of every 2 Step x 2 Step square of rows a and b.
template <int Step>
inline void exchange(Floats& a, Floats& b) {
  Ints low, high;
  for (int lane = 0; lane < kLanes; ++lane) {
    const bool upper = (lane & Step) != 0;
    low[lane] = upper ? kLanes + lane - Step : lane;
    high[lane] = upper ? kLanes + lane : lane + Step;
  }
  const Floats first = shuffle(a, b, low);
  b = shuffle(a, b, high);
  a = first;
}

template <int Step>
inline void exchange_all(Floats* rows) {
  for (int r = 0; r < kLanes; ++r)
    if ((r & Step) == 0) exchange<Step>(rows[r], rows[r + Step]);
}

// kLanes rows of kLanes.
inline void transpose(Floats* rows) {
  exchange_all<1>(rows);
  exchange_all<2>(rows);
  if constexpr (kLanes > 4) exchange_all<4>(rows);
  if constexpr (kLanes > 8) exchange_all<8>(rows);
}

// Group g of N starts at values + g * stride; lanes from `groups` on are zero.
template <int N>
inline Lanes<N> load_groups(const float* values, std::ptrdiff_t stride, int groups = kLanes) {
  static_assert(N % kLanes == 0);
  Lanes<N> lanes;
  for (int part = 0; part < N; part += kLanes) {
    for (int g = 0; g < kLanes; ++g)
      lanes[part + g] = g < groups ? load(values + g * stride + part) : Floats{};
    transpose(lanes.at + part);
  }
  return lanes;
}

inline void store_bytes(Ints values, std::uint8_t* bytes) {
  const Bytes narrow = __builtin_convertvector(values, Bytes);
  std::memcpy(bytes, &narrow, sizeof(narrow));
}

inline void store_codes(Floats values, std::uint8_t* codes) {
  store_bytes(__builtin_convertvector(values, Ints), codes);
}

// The inverse of load_groups, as bytes: group g at codes + g * N.
template <int N>
inline void store_groups(Lanes<N> lanes, std::uint8_t* codes) {
  for (int part = 0; part < N; part += kLanes) {
    transpose(lanes.at + part);
    for (int g = 0; g < kLanes; ++g) store_codes(lanes[part + g], codes + g * N + part);
  }
}

// Lane g holds values[g * N + i] in element i, for N too small for load_groups.
template <int N>
inline Lanes<N> gather_groups(const float* values) {
  Lanes<N> lanes;
  for (int i = 0; i < N; ++i)
    for (int g = 0; g < kLanes; ++g) lanes[i][g] = values[g * N + i];
  return lanes;
}

// The first of the elements with the largest magnitude, with its sign.
template <int N>
inline Floats signed_extreme(const Lanes<N>& x) {
  Floats extreme{}, largest{};
  for (int i = 0; i < N; ++i) {
    const Floats size = magnitude(x[i]);
    extreme = size > largest ? x[i] : extreme;
    largest = at_least(size, largest);
  }
  return extreme;
}

template <int N>
inline Lanes<N> squares(const Lanes<N>& x) {
  Lanes<N> result;
  for (int i = 0; i < N; ++i) result[i] = x[i] * x[i];
  return result;
}

template <int N>
inline Floats total(const Lanes<N>& x) {
  Floats sum{};
  for (int i = 0; i < N; ++i) sum += x[i];
  return sum;
}

}  // namespace calque::ggml::inline CALQUE_GGML_ISA
