#pragma once

#include <algorithm>
#include <cstdint>

#include "calque/core/cost.h"
#include "calque/core/matrix.h"

// What scoring a text by its logits takes.

namespace calque::eval {

// Elements of a thread's buffer of logits: enough rows for an efficient product, small beside a
// block's weights.
inline constexpr Index kLogitsElements = Index{1} << 20;
constexpr Index scored_rows(Index vocabulary, Index seqlen) {
  return std::clamp<Index>(kLogitsElements / vocabulary, 1, seqlen - 1);
}

// What a thread holds: logits in fp32; probabilities and their logarithms in double, of the
// reference at every row and of one other model at one.
constexpr std::uint64_t scoring_bytes(Index vocabulary, Index seqlen) {
  constexpr Index kDistribution = 2 * sizeof(double);
  return static_cast<std::uint64_t>(
      vocabulary * (scored_rows(vocabulary, seqlen) * (Index{sizeof(float)} + kDistribution) +
                    kDistribution));
}

// One model at so many positions: its head's products, and a distribution's exponentials.
constexpr Cost scoring_cost(double positions, Index vocabulary, Index hidden_size) {
  const double logits = positions * static_cast<double>(vocabulary);
  return {.flops = 2 * logits * static_cast<double>(hidden_size), .exponentials = logits};
}

}  // namespace calque::eval
