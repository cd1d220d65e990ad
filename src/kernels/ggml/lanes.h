#pragma once

#include <cstdint>

#include "kernels/cpu/simd.h"

// The reference quantizers sum the elements of a group one after another in fp32, so their bytes
// depend on that order. Here sixteen groups advance side by side, one a lane: the order within each
// group stays, and the arithmetic is sixteen wide.
namespace calque::ggml {

using cpu::broadcast;
using cpu::Floats;
using cpu::kLanes;
using cpu::load;
using cpu::nearest_code;
using cpu::round_even;
using cpu::store;

using Ints = std::int32_t __attribute__((vector_size(64)));
using Codes16 = std::uint8_t __attribute__((vector_size(16)));

// Element i of sixteen groups of N.
template <int N>
struct Lanes {
  Floats at[N];
  Floats& operator[](int i) { return at[i]; }
  const Floats& operator[](int i) const { return at[i]; }
};

inline Floats magnitude(Floats v) {
  constexpr std::int32_t kAllButSign = 0x7fffffff;
  return reinterpret_cast<Floats>(reinterpret_cast<Ints>(v) & kAllButSign);
}

inline Floats square_root(Floats v) {
  Floats root{};
  for (int lane = 0; lane < kLanes; ++lane) root[lane] = __builtin_sqrtf(v[lane]);
  return root;
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
  const Floats first = __builtin_shuffle(a, b, low);
  b = __builtin_shuffle(a, b, high);
  a = first;
}

template <int Step>
inline void exchange_all(Floats* rows) {
  for (int r = 0; r < kLanes; ++r)
    if ((r & Step) == 0) exchange<Step>(rows[r], rows[r + Step]);
}

inline void transpose(Floats* rows) {
  exchange_all<1>(rows);
  exchange_all<2>(rows);
  exchange_all<4>(rows);
  exchange_all<8>(rows);
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

inline void store_codes(Floats values, std::uint8_t* codes) {
  const Codes16 bytes = __builtin_convertvector(__builtin_convertvector(values, Ints), Codes16);
  std::memcpy(codes, &bytes, sizeof(bytes));
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
    largest = size > largest ? size : largest;
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

}  // namespace calque::ggml
