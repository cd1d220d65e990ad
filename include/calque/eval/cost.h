#pragma once

#include <algorithm>
#include <cstdint>

#include "calque/core/cost.h"
#include "calque/core/matrix.h"

// The limits that scoring a text by its logits works by, and what it takes.

namespace calque::eval {

// A thread multiplies so many positions by so many tokens of the vocabulary at a time: enough rows
// to make up for reading the head's strip, and logits that stay in the core's second-level cache.
inline constexpr Index kScoredRows = 64;
inline constexpr Index kStripTokens = 1024;

// Elements of heads that are in memory at a time, strips of all models together.
inline constexpr Index kHeldElements = Index{64} << 20;

// Tokens of the vocabulary whose strips of `heads` heads are in memory at a time.
constexpr Index held_tokens(Index vocabulary, Index hidden_size, Index heads,
                            Index held_elements = kHeldElements) {
  const Index fitting = held_elements / (heads * hidden_size) / kStripTokens * kStripTokens;
  return std::min(vocabulary, std::max(kStripTokens, fitting));
}

// Bytes that a thread holds: logits of two models in fp32 and exponentials of one in double, and
// their rows between the final norm and the product.
constexpr std::uint64_t scoring_bytes(Index hidden_size) {
  constexpr Index kLogit = 2 * sizeof(float) + sizeof(double);
  return static_cast<std::uint64_t>(kScoredRows *
                                    (kStripTokens * kLogit + hidden_size * Index{sizeof(float)}));
}

// Bytes of a model's running sums and result at one position.
inline constexpr std::uint64_t kScoredPositionBytes = 64;

// Cost of one model at so many positions: its head's products, and a distribution's exponentials.
constexpr Cost scoring_cost(double positions, Index vocabulary, Index hidden_size) {
  const double logits = positions * static_cast<double>(vocabulary);
  return {.flops = 2 * logits * static_cast<double>(hidden_size), .exponentials = logits};
}

}  // namespace calque::eval
