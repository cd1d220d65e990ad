#include "calque/forward/cost.h"

namespace calque::forward {
namespace {

std::uint64_t bytes_of(Index count) { return static_cast<std::uint64_t>(count); }

// The bytes of one block: its mixers', and a chunk's rows on the way through the widest.
std::uint64_t block_bytes(const model::BlockSpec& block, Index hidden, Index length,
                          std::uint64_t compute_bytes, bool staged) {
  std::uint64_t whole = 0;
  Index channels = 0;
  bool side_by_side = false;
  for (const model::HalfSpec& half : block.halves) {
    whole += half.mixer->sequence_bytes(length, static_cast<Index>(compute_bytes), staged);
    channels = std::max(channels, half.mixer->chunk_channels(staged));
    side_by_side = side_by_side || half.beside;
  }
  if (side_by_side && !staged) whole += sizeof(float) * bytes_of(length * hidden);  // their sum
  return whole + bytes_of(std::min(length, kChunkRows) * (hidden + channels)) * compute_bytes;
}

}  // namespace

double tokens_at(const model::BlockSpec&, const model::SiteSpec& site, double tokens) {
  return tokens * site.share;
}

// Norms twice (for the statistics, and on the way), residuals.
Cost between_linears_cost(const model::BlockSpec& block, Index hidden, double sequences,
                          double length) {
  Cost cost;
  for (const model::HalfSpec& half : block.halves) {
    cost += half.mixer->cost(sequences, length);
    cost.elements += sequences * length * 3 * static_cast<double>(hidden);
  }
  return cost;
}

Index kept_channels(const model::FamilySpec& family) {
  Index channels = family.layer_embeddings ? family.layer_embeddings->projection.shape[0] : 0;
  for (const model::BlockSpec& block : family.blocks)
    for (const model::HalfSpec& half : block.halves)
      for (const model::KeptRows& rows : half.mixer->keeps()) channels += rows.width;
  return channels;
}

std::uint64_t layer_embedding_bytes(const model::FamilySpec& family, Index length) {
  if (!family.layer_embeddings) return 0;
  const Index all = family.layer_embeddings->projection.shape[0];
  const Index hidden = family.config.hidden_size;
  // The projection; rows of the table, what becomes of them, and the tokens' own embeddings.
  return sizeof(float) * bytes_of(all * hidden + length * (2 * all + hidden));
}

std::uint64_t sequence_bytes(const model::FamilySpec& family, Index length,
                             std::uint64_t compute_bytes, bool staged) {
  std::uint64_t most = 0;
  for (const model::BlockSpec& block : family.blocks)
    most = std::max(most,
                    block_bytes(block, family.config.hidden_size, length, compute_bytes, staged));
  return most;
}

std::uint64_t rounded_cache_bytes(const model::FamilySpec& family, Index length) {
  Index channels = 0;
  for (const model::BlockSpec& block : family.blocks)
    for (const model::HalfSpec& half : block.halves)
      if (const auto cache = half.mixer->cache())
        channels = std::max(channels, cache->heads * cache->head_dim);
  return sizeof(float) * bytes_of(length * channels);
}

std::uint64_t prepared_bytes(const model::BlockSpec& block, std::uint64_t compute_bytes,
                             const model::SiteSpec* until) {
  std::uint64_t total = 0;
  if (compute_bytes == sizeof(float)) return total;
  for (const model::SiteSpec& site : block.sites) {
    if (&site == until) break;
    for (const model::LinearSpec& linear : site.readers)
      total += compute_bytes * bytes_of(linear.out_features() * linear.in_features());
  }
  return total;
}

}  // namespace calque::forward
