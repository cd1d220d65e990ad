#pragma once

#include "ggml/types/lanes.h"

namespace calque::ggml::inline CALQUE_GGML_ISA {

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

}  // namespace calque::ggml::inline CALQUE_GGML_ISA
