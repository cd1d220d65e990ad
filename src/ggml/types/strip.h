#pragma once

#include "ggml/types/codec.h"
#include "ggml/types/lanes.h"

namespace calque::ggml::inline CALQUE_GGML_ISA {

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

}  // namespace calque::ggml::inline CALQUE_GGML_ISA
