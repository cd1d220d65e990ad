#include "mixers/attention/spec.h"

#include <algorithm>
#include <utility>

namespace calque::model {
namespace {

SiteSpec site_in(const LayerTensors& tensors, const AttentionLayout& layout,
                 const Attention& attention, Index hidden) {
  const Index q = attention.query_rows(), k = attention.key_channels();
  const bool bias = layout.qkv_bias;
  SiteSpec site{.name = "attn_in", .channels = hidden, .from_norm = true};
  if (layout.fused) {
    site.readers = {tensors.linear("self_attn.qkv_proj", "attn_qkv", {q + 2 * k, hidden, bias})};
    site.readers[0].heads = attention.heads + 2 * attention.kv_heads;
    return site;
  }
  const Index q_heads = layout.gguf_permuted ? attention.heads : 0;
  const Index k_heads = layout.gguf_permuted ? attention.kv_heads : 0;
  site.readers = {tensors.linear("self_attn.q_proj", "attn_q", {q, hidden, bias, q_heads})};
  if (attention.takes.empty())
    site.readers.push_back(
        tensors.linear("self_attn.k_proj", "attn_k", {k, hidden, bias, k_heads}));
  if (attention.takes.empty() && !attention.values_are_keys)
    site.readers.push_back(tensors.linear("self_attn.v_proj", "attn_v", {k, hidden, bias}));
  for (std::size_t i = 0; i < site.readers.size(); ++i) {
    site.readers[i].heads = i == 0 ? attention.heads : attention.kv_heads;
    site.readers[i].key_value = i > 0;
  }
  return site;
}

std::vector<KeptRows> keys_and_values(const std::string& name, Index channels) {
  if (name.empty()) return {};
  return {{name + ".keys", channels}, {name + ".values", channels}};
}

}  // namespace

std::vector<TensorSpec> Attention::tensors() const {
  std::vector<TensorSpec> result;
  for (const std::optional<NormSpec>* norm : {&q_norm, &k_norm})
    if (*norm && (*norm)->has_weight()) result.push_back((*norm)->weight);
  if (sinks) result.push_back(*sinks);
  return result;
}

std::vector<KeptRows> Attention::keeps() const { return keys_and_values(leaves, key_channels()); }
std::vector<KeptRows> Attention::taken() const { return keys_and_values(takes, key_channels()); }

// Products of queries with keys and of weights with values. Elements: rotated and reordered heads.
Cost Attention::cost(double sequences, double length) const {
  const auto query_heads = static_cast<double>(heads), dim = static_cast<double>(head_dim);
  const double keys = sequences * visible_keys(length, static_cast<double>(window));
  return {
      .flops = 4 * query_heads * dim * keys,
      .exponentials = query_heads * keys,
      .elements = sequences * length * 3 * dim * (query_heads + 2 * static_cast<double>(kv_heads))};
}

// Queries, keys, values, gates and, in one piece, what attention leaves are of the whole sequence;
// scores are fp32, and weights beside them where they are not.
std::uint64_t Attention::sequence_bytes(Index length, Index compute_bytes, bool staged) const {
  const Index rows = query_rows() + 2 * key_channels() + (staged ? 0 : query_channels());
  const Index scores = std::min(kScoreElements, kScoreRows * length);
  return static_cast<std::uint64_t>(length * rows * compute_bytes +
                                    scores * (4 + (compute_bytes == 4 ? 0 : compute_bytes)));
}

Index Attention::chunk_channels(bool) const { return query_rows() + 2 * key_channels(); }

DetachedHalf attention_half(const LayerTensors& tensors, const AttentionLayout& layout,
                            Attention attention, Index hidden,
                            const std::optional<NormSpec>& norm) {
  if (layout.qk_norm) {
    const bool whole = attention.whole_norms = layout.qk_norm_whole;
    attention.q_norm =
        tensors.norm("self_attn.q_norm", "attn_q_norm",
                     whole ? attention.query_channels() : attention.head_dim, *layout.qk_norm);
    if (attention.takes.empty())
      attention.k_norm =
          tensors.norm("self_attn.k_norm", "attn_k_norm",
                       whole ? attention.key_channels() : attention.head_dim, *layout.qk_norm);
  }
  if (layout.sinks)
    attention.sinks = tensors.tensor("self_attn.sinks", "attn_sinks.weight", {attention.heads});
  SiteSpec in = site_in(tensors, layout, attention, hidden);
  const Index width = attention.query_channels();
  SiteSpec out{.name = "attn_out", .channels = width, .split_channels = true};
  out.readers = {tensors.linear("self_attn.o_proj", "attn_output", {hidden, width, layout.o_bias})};

  DetachedHalf result;
  result.folds = norm_fold(in, norm);
  in.fold = result.folds.empty() ? -1 : 0;
  if (!attention.v_norm) {  // a norm would take scales out again
    // A fused qkv has the rows of v last.
    FoldSpec values =
        rows_fold(out, in.readers.back(), layout.fused ? width + attention.key_channels() : 0);
    values.head_dim = attention.head_dim;
    values.shared_by = attention.heads / attention.kv_heads;
    out.fold = static_cast<Index>(result.folds.size());
    result.folds.push_back(std::move(values));
  }
  result.sites = {std::move(in), std::move(out)};
  result.half.norm = norm;
  result.half.mixer = std::make_shared<Attention>(std::move(attention));
  return result;
}

}  // namespace calque::model
