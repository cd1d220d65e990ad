#pragma once

#include <cstddef>

#include "calque/core/simd.h"

namespace calque::cpu {

// Sixteen floats: one AVX-512 register, or as many smaller ones as the machine needs. The lanes are
// part of the arithmetic (sums go lane by lane), so results do not depend on the register width.
using Floats = simd::Floats<16>;
constexpr int kLanes = 16;

using simd::at_least;
using simd::at_most;
using simd::dot_in_double;
using simd::nearest_code;
using simd::positive_lanes;
using simd::store;
using simd::sum;

inline Floats load(const float* p) { return simd::load<Floats>(p); }
inline Floats broadcast(float x) { return simd::broadcast<Floats>(x); }
inline Floats load_part(const float* p, std::ptrdiff_t count, float filler) {
  return simd::load_part<Floats>(p, count, filler);
}

}  // namespace calque::cpu
