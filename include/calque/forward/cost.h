#pragma once

#include <algorithm>
#include <cstdint>

#include "calque/core/cost.h"
#include "calque/core/matrix.h"
#include "calque/model/family.h"

// The limits that the CPU's forward pass works by, and what it takes.

namespace calque::forward {

// Rows that are taken through a block's linears at a time: what one linear leaves is still in the
// core's second-level cache when the next reads it.
inline constexpr Index kChunkRows = 256;

// Scores of attention that a thread computes at a time: 1.5 MiB stay in a core's second-level
// cache; and the rows of one product (positions times heads that share their keys): enough for an
// efficient product, few enough that little is computed above the diagonal.
inline constexpr Index kScoreElements = 393'216;
inline constexpr Index kScoreRows = 192;

// What an observer gets at a time: enough for an efficient Gram matrix, small beside the rest.
inline constexpr Index kObservedRows = 4096;
inline constexpr Index kObservedBytes = Index{64} << 20;
constexpr Index observed_rows(Index row_bytes) {
  return std::clamp<Index>(kObservedBytes / row_bytes, 1, kObservedRows);
}

// Of so many tokens, those that a site sees: an expert's only what the router sends there.
double tokens_at(const model::BlockSpec& block, const model::SiteSpec& site, double tokens);

constexpr Cost linear_cost(Index out_features, Index in_features, double tokens) {
  return {.flops = 2 * static_cast<double>(out_features) * static_cast<double>(in_features) *
                   tokens};
}

// Keys that the positions of a sequence see, together. `window` 0: all before, and their own.
constexpr double visible_keys(double length, double window) {
  if (window == 0 || window >= length) return length * (length + 1) / 2;
  return window * (window + 1) / 2 + (length - window) * window;
}

// `sequences` of `length` tokens: products of queries with keys and of weights with values, and the
// exponentials of the scores.
Cost attention_cost(const model::ModelConfig& config, const model::BlockSpec& block,
                    double sequences, double length);

// Numbers that norms, rotations, activations and residuals of a block touch.
Cost elementwise_cost(const model::ModelConfig& config, const model::BlockSpec& block,
                      double tokens);

// What a thread holds of one sequence while it goes through the wider half of a block.
// `compute_bytes`: of an element. `staged`: the block is cut at its sites, whose inputs are kept
// elsewhere.
std::uint64_t sequence_bytes(const model::ModelConfig& config, Index length,
                             std::uint64_t compute_bytes, bool staged);

// What it holds besides where a cache rounds keys and values.
std::uint64_t rounded_cache_bytes(const model::ModelConfig& config, Index length);

// A block's linears as they are prepared for products in bfloat16; in fp32 they are borrowed. Those
// before `until`; null: all.
std::uint64_t prepared_bytes(const model::BlockSpec& block, std::uint64_t compute_bytes,
                             const model::SiteSpec* until);

}  // namespace calque::forward
