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

// An observer gets this much at a time: enough for an efficient Gram matrix, small beside the rest.
inline constexpr Index kObservedRows = 4096;
inline constexpr Index kObservedBytes = Index{64} << 20;
constexpr Index observed_rows(Index row_bytes) {
  return std::clamp<Index>(kObservedBytes / row_bytes, 1, kObservedRows);
}

// The tokens, of so many, that a site sees: an expert's only those that the router sends there.
double tokens_at(const model::BlockSpec& block, const model::SiteSpec& site, double tokens);

constexpr Cost linear_cost(Index out_features, Index in_features, double tokens) {
  return {.flops =
              2 * static_cast<double>(out_features) * static_cast<double>(in_features) * tokens};
}

using model::visible_keys;

// The cost of a block beside its linears, `sequences` of `length` tokens: its mixers' own cost,
// norms and residuals.
Cost between_linears_cost(const model::BlockSpec& block, Index hidden, double sequences,
                          double length);

// Channels of the fp32 rows that a token has beside its hidden states once all blocks have left
// theirs (model::KeptRows), the embeddings of layers included.
Index kept_channels(const model::FamilySpec& family);

// The bytes that making the embeddings of layers takes for a sequence of `length` tokens, beside
// the rows that are kept; 0 where there are none.
std::uint64_t layer_embedding_bytes(const model::FamilySpec& family, Index length);

// The bytes that a thread holds of one sequence while it goes through a block, the widest there is.
// `compute_bytes`: of an element. `staged`: the block is cut at its sites, whose inputs are kept
// elsewhere.
std::uint64_t sequence_bytes(const model::FamilySpec& family, Index length,
                             std::uint64_t compute_bytes, bool staged);

// The bytes that it holds besides where a cache rounds keys and values.
std::uint64_t rounded_cache_bytes(const model::FamilySpec& family, Index length);

// A block's linears as they are prepared for products in bfloat16; in fp32 they are borrowed. Those
// before `until`; null: all.
std::uint64_t prepared_bytes(const model::BlockSpec& block, std::uint64_t compute_bytes,
                             const model::SiteSpec* until);

}  // namespace calque::forward
