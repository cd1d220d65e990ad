#pragma once

#include "kernels/ggml/lanes.h"

namespace calque::ggml {

// The nearest integer, halves away from zero. Adding 0.5 first would round 0.49999997 up.
inline Floats round_half_away(Floats v) {
  const Floats whole = truncated(v);
  const Floats rest = v - whole;
  return whole + (rest >= 0.5f ? broadcast(1) : Floats{}) -
         (rest <= -0.5f ? broadcast(1) : Floats{});
}

// A maximum does not depend on the order.
inline float largest(Floats v) {
  for (int half = kLanes / 2; half > 0; half /= 2) {
    Ints partner;
    for (int lane = 0; lane < kLanes; ++lane) partner[lane] = lane ^ half;
    const Floats other = __builtin_shuffle(v, partner);
    v = v > other ? v : other;
  }
  return v[0];
}

inline float largest_magnitude(Floats a, Floats b) {
  const Floats x = magnitude(a), y = magnitude(b);
  return largest(x > y ? x : y);
}

}  // namespace calque::ggml
