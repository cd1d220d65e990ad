#pragma once

#include "calque/model/block.h"
#include "calque/model/config.h"
#include "model/layer_tensors.h"

namespace calque::model {

// A gated delta net: linear attention whose state, a matrix a head, is corrected by each token. Per
// value head h, with the key head that it shares with its neighbours:
//
//   q, k, v = silu(convolution(in_proj x)), q = |q| / sqrt(key_dim), k = |k|   (lengths 1)
//   g = -e^A_h softplus(a_h + dt_bias_h), beta = sigmoid(b_h)
//   S = e^g S;  S = S + k (beta (v - k^T S))^T;  y = q^T S          state S [key_dim, value_dim]
//   out_proj(norm(y) * silu(z))
//
// The convolution is causal, one filter a channel of q, k and v. A sequence starts with an empty
// state. Sites: attn_in (in_proj_qkv, in_proj_z, in_proj_b and in_proj_a; or in_proj_qkvz and
// in_proj_ba), attn_out (out_proj).
struct DeltaNet : Mixer {
  static constexpr std::string_view kKind = "delta_net";
  enum Site : std::size_t { kIn, kOut };  // in the half's sites

  DeltaNetSizes sizes;
  // in_proj_qkvz has q, k, v and z of one key head below one another, then those of the next;
  // in_proj_ba has b and a in the same way.
  bool by_key_head = false;
  TensorSpec convolution;  // [mixed_channels, 1, kernel]; the last tap is the token's own
  TensorSpec decay;        // A, [value_heads]
  TensorSpec dt_bias;      // [value_heads]
  NormSpec norm;           // applied to every head, [value_dim]

  // Tokens whose states are computed together.
  static constexpr Index kChunk = 64;

  std::string_view kind() const override { return kKind; }
  std::vector<TensorSpec> tensors() const override {
    return {convolution, decay, dt_bias, norm.weight};
  }
  Cost cost(double sequences, double length) const override;
  std::uint64_t sequence_bytes(Index length, Index compute_bytes, bool staged) const override;
  Index chunk_channels(bool staged) const override;
};

// Shapes and settings are those of `net`, whose tensors this fills; `norm` is the half's.
DetachedHalf delta_net_half(const LayerTensors& tensors, DeltaNet net, Index hidden,
                            const NormSpec& norm);

}  // namespace calque::model
