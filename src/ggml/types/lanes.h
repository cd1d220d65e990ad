#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "calque/core/simd.h"
#include "ggml/types/codec.h"

// The reference quantizers sum the elements of a group one after another in fp32, so their bytes
// depend on that order. Here as many groups as a register has lanes advance side by side: the order
// within each group stays, and the arithmetic is that many times wider. Lanes never mix, so the
// bytes do not depend on the width.
namespace calque::ggml::inline CALQUE_ISA {

constexpr int kLanes = simd::kRegisterLanes;

using Floats = simd::Floats<kLanes>;
using Ints = simd::Ints<kLanes>;
using Bytes = simd::Bytes<kLanes>;
using simd::any;
using simd::at_least;
using simd::at_most;
using simd::magnitude;
using simd::nearest_code;
using simd::shuffle;
using simd::square_root;
using simd::store;
using simd::transpose;
using simd::truncated;

inline Floats load(const float* p) { return simd::load<Floats>(p); }
inline Floats broadcast(float x) { return simd::broadcast<Floats>(x); }

inline Ints load_ints(const std::int32_t* p) {
  Ints v;
  std::memcpy(&v, p, sizeof(v));
  return v;
}
inline void store_ints(Ints v, std::int32_t* p) { std::memcpy(p, &v, sizeof(v)); }

// Element i of kLanes groups of N.
template <int N>
struct Lanes {
  Floats at[N];
  Floats& operator[](int i) { return at[i]; }
  const Floats& operator[](int i) const { return at[i]; }
};

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

// The inverse of load_groups: group g at values + g * N.
template <int N>
inline void store_transposed(Lanes<N> lanes, float* values) {
  for (int part = 0; part < N; part += kLanes) {
    transpose(lanes.at + part);
    for (int g = 0; g < kLanes; ++g) store(values + g * N + part, lanes[part + g]);
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

// The nearest integer, halves away from zero. Adding 0.5 first would round 0.49999997 up.
inline Floats round_half_away(Floats v) {
  const Floats whole = truncated(v);
  const Floats rest = v - whole;
  return whole + (rest >= 0.5f ? broadcast(1) : Floats{}) -
         (rest <= -0.5f ? broadcast(1) : Floats{});
}

// A maximum does not depend on the order.
inline float largest_magnitude(const float* x, int count) {
  Floats largest{};
  for (int i = 0; i < count; i += kLanes) largest = at_least(magnitude(load(x + i)), largest);
  for (int half = kLanes / 2; half > 0; half /= 2) {
    Ints partner;
    for (int lane = 0; lane < kLanes; ++lane) partner[lane] = lane ^ half;
    largest = at_least(shuffle(largest, largest, partner), largest);
  }
  return largest[0];
}

constexpr int kSuper = 256;  // weights in a super-block

// Up to kLanes consecutive blocks of a row.
struct Strip {
  const float* values;
  const float* importance;  // or null
  int blocks;
};

// body(strip, index of its first block) along the row.
template <typename Body>
void for_each_strip(const Row& row, Index block_columns, Body body) {
  const Index blocks = row.columns / block_columns;
  for (Index first = 0; first < blocks; first += kLanes) {
    const Index offset = first * block_columns;
    body(Strip{row.values + offset, row.importance ? row.importance + offset : nullptr,
               blocks - first < kLanes ? static_cast<int>(blocks - first) : kLanes},
         first);
  }
}

// Up to kLanes groups of N of a strip of super-blocks.
template <int N>
struct Batch {
  int first_group;
  int groups;

  Lanes<N> load_from(const float* values) const {
    return load_groups<N>(values + first_group * N, N, groups);
  }
};

// body(batch) for all groups of the strip.
template <int N, typename Body>
void for_each_batch(const Strip& strip, Body body) {
  const int groups = strip.blocks * (kSuper / N);
  for (int first = 0; first < groups; first += kLanes)
    body(Batch<N>{first, groups - first < kLanes ? groups - first : kLanes});
}

// Sum of squares of each super-block of the strip, element after element.
inline Floats super_block_energies(const Strip& strip) {
  Floats energy{};
  for (int first = 0; first < kSuper; first += kLanes) {
    const Lanes<kLanes> x = load_groups<kLanes>(strip.values + first, kSuper, strip.blocks);
    for (int i = 0; i < kLanes; ++i) energy += x[i] * x[i];
  }
  return energy;
}

// importance * sqrt(variance + x^2), the weight of an element under an importance matrix.
template <int N>
Lanes<N> element_weights(const Lanes<N>& x, const Lanes<N>& importance, Floats variance) {
  Lanes<N> w;
  for (int i = 0; i < N; ++i) w[i] = importance[i] * square_root(variance + x[i] * x[i]);
  return w;
}

// Per super-block values spread over the groups of a batch.
template <int N>
Floats spread(Floats per_block, const Batch<N>& batch) {
  constexpr int kGroups = kSuper / N;
  Floats result{};
  for (int lane = 0; lane < kLanes; ++lane)
    result[lane] = per_block[(batch.first_group + lane) / kGroups % kLanes];
  return result;
}

}  // namespace calque::ggml::inline CALQUE_ISA
