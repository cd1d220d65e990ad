#include "calque/forward/cost.h"

namespace calque::forward {
namespace {

std::uint64_t bytes_of(Index count) { return static_cast<std::uint64_t>(count); }

}  // namespace

double tokens_at(const model::BlockSpec& block, const model::SiteSpec& site, double tokens) {
  if (site.expert < 0) return tokens;
  const model::ExpertsSpec& experts = block.experts.front();
  return tokens * static_cast<double>(experts.used) / static_cast<double>(experts.count);
}

Cost attention_cost(const model::ModelConfig& config, const model::BlockSpec& block,
                    double sequences, double length) {
  const auto heads = static_cast<double>(config.num_heads);
  const double keys = sequences * visible_keys(length, static_cast<double>(block.window));
  return {.flops = 4 * heads * static_cast<double>(config.head_dim) * keys,
          .exponentials = heads * keys};
}

// Norms twice (for the statistics, and on the way), residuals; rotated and reordered heads; SwiGLU.
Cost elementwise_cost(const model::ModelConfig& config, const model::BlockSpec& block,
                      double tokens) {
  Index width = config.intermediate_size;
  for (const model::ExpertsSpec& experts : block.experts)
    width = experts.used * config.expert_intermediate_size;
  const Index heads = config.head_dim * (config.num_heads + 2 * config.num_kv_heads);
  return {.elements =
              tokens * static_cast<double>(6 * config.hidden_size + 3 * heads + 3 * width)};
}

// Queries, keys, values and, in one piece, what attention leaves are of the whole sequence; scores
// and what linears leave, of some rows.
std::uint64_t sequence_bytes(const model::ModelConfig& config, Index length,
                             std::uint64_t compute_bytes, bool staged) {
  const Index heads = config.num_heads * config.head_dim;
  const Index projected = heads + 2 * config.num_kv_heads * config.head_dim;
  const Index width = std::max(config.intermediate_size, config.expert_intermediate_size);
  const std::uint64_t attention =
      bytes_of(length * (projected + (staged ? 0 : heads))) * compute_bytes +
      bytes_of(std::min(kScoreElements, kScoreRows * length)) *
          (sizeof(float) + (compute_bytes == sizeof(float) ? 0 : compute_bytes));
  const Index left = config.hidden_size + std::max(projected, (staged ? 1 : 2) * width);
  return attention + bytes_of(std::min(length, kChunkRows) * left) * compute_bytes;
}

std::uint64_t rounded_cache_bytes(const model::ModelConfig& config, Index length) {
  return sizeof(float) * bytes_of(length * config.num_kv_heads * config.head_dim);
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
