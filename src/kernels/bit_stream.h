#pragma once

#include <algorithm>

#include "calque/core/matrix.h"

namespace calque {

// Code `index` of a vector lies here in its stream of words (see calque/kernels/pack_bits.h).
struct PlaceInStream {
  Index word;
  int shift;
  int spill;  // bits that continue in the next word, 0 if none
};

inline PlaceInStream place_of(Index index, int bits) {
  const Index bit = index * bits;
  const int shift = static_cast<int>(bit % 32);
  return {bit / 32, shift, std::max(0, shift + bits - 32)};
}

}  // namespace calque
