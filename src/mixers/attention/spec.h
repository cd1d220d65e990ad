#pragma once

#include <optional>
#include <string>

#include "calque/model/block.h"
#include "calque/model/config.h"
#include "model/layer_tensors.h"

namespace calque::model {

// Causal softmax attention, query heads in groups that share keys and values. Sites: attn_in (q, k
// and v, or one linear with their rows below one another; q and k where values are keys; q alone
// where both come from an earlier layer), attn_out (o).
struct Attention : Mixer {
  static constexpr std::string_view kKind = "attention";
  enum Site : std::size_t { kIn, kOut };  // in the half's sites

  Index heads = 0;
  Index kv_heads = 0;
  Index head_dim = 0;
  Index window = 0;              // tokens seen, the own one included; 0: all before
  std::optional<RopeSpec> rope;  // turns queries and keys; none: nothing tells positions apart
  double query_scale = 0;        // scores are multiplied by this; 0: 1 / sqrt(head_dim)
  double softcap = 0;            // scores become cap * tanh(score / cap); 0: no cap
  // q_proj makes a head's query and then its gate; what a head leaves is multiplied by the sigmoid
  // of the gate, channel by channel.
  bool gated = false;
  // Before they are turned: for each head, [head_dim], or for all heads at once, [heads *
  // head_dim].
  std::optional<NormSpec> q_norm;
  std::optional<NormSpec> k_norm;
  bool whole_norms = false;  // for all heads at once
  // A score for each head, [heads], that takes part in the sum that its weights are divided by, and
  // weighs no value. It is not multiplied by the scale.
  std::optional<TensorSpec> sinks;
  std::optional<NormSpec> v_norm;  // over each head's values; without weight
  bool values_are_keys = false;    // values are what k_proj makes, before its norm
  // Not empty: keys and values, as attention uses them, are left for later layers under this name,
  // or are those that an earlier one left.
  std::string leaves;
  std::string takes;

  Index query_channels() const { return heads * head_dim; }
  Index query_rows() const { return (gated ? 2 : 1) * query_channels(); }  // q_proj's
  Index key_channels() const { return kv_heads * head_dim; }
  std::vector<KeptRows> taken() const;  // from an earlier layer: keys, then values

  // The CPU computes scores of some rows at a time (positions times heads that share their keys):
  // enough rows for an efficient product, few enough that little is computed above the diagonal;
  // and no more scores than stay in a core's second-level cache (1.5 MiB).
  static constexpr Index kScoreRows = 192;
  static constexpr Index kScoreElements = 393'216;

  std::string_view kind() const override { return kKind; }
  std::vector<TensorSpec> tensors() const override;
  std::vector<KeptRows> keeps() const override;  // keys, then values
  std::optional<CacheShape> cache() const override {
    if (!takes.empty()) return std::nullopt;
    return CacheShape{kv_heads, head_dim, window};
  }
  Cost cost(double sequences, double length) const override;
  std::uint64_t sequence_bytes(Index length, Index compute_bytes, bool staged) const override;
  Index chunk_channels(bool staged) const override;
};

// Families lay the same tensors out in different ways.
struct AttentionLayout {
  bool qkv_bias = false;
  bool o_bias = false;
  std::optional<NormSpec> qk_norm;  // kind and epsilon
  bool qk_norm_whole = false;       // over all heads at once
  bool fused = false;               // q, k and v are one linear
  bool sinks = false;
  // GGUF runtimes rotate adjacent pairs for this architecture, so rows of q and k are interleaved.
  bool gguf_permuted = false;
};

// Shapes and settings are those of `attention`, whose norms of q and k this fills; `norm` is the
// half's.
DetachedHalf attention_half(const LayerTensors& tensors, const AttentionLayout& layout,
                            Attention attention, Index hidden, const std::optional<NormSpec>& norm);

}  // namespace calque::model
