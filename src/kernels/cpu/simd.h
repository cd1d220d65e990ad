#pragma once

#include <cstring>

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

// A NaN lane becomes the bound.
inline Floats at_least(Floats v, Floats bound) { return v > bound ? v : bound; }
inline Floats at_most(Floats v, Floats bound) { return v < bound ? v : bound; }

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

}  // namespace calque::cpu
