#include "mixers/attention/tensors.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/_softmax.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/bmm.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/sigmoid.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <optional>
#include <utility>

#include "forward/torch/tensors.h"

namespace calque::forward {
namespace {

// Scores at a time, over all heads: 128 MiB of fp32, and as much again for the probabilities.
constexpr Index kScoreElements = Index{1} << 25;

struct Span {
  Index first = 0;
  Index count = 0;
  Index end() const { return first + count; }
};

// True where a key is not seen: after the position, or gone from its window. [positions, keys]
at::Tensor hidden_keys(Span rows, Span keys, Index window, const at::Device& device) {
  const auto options = at::device(device).dtype(at::kLong);
  const at::Tensor position = at::arange(rows.first, rows.end(), options).unsqueeze(1);
  const at::Tensor key = at::arange(keys.first, keys.end(), options).unsqueeze(0);
  const at::Tensor after = key > position;
  return window == 0 ? after : after.logical_or(key <= position - window);
}

// Causal softmax attention of one sequence. q_THD [T, heads, head_dim] with the scores' scale in
// it, k_THD and v_THD [T, kv_heads, head_dim], normed and turned, fp32; sinks_1H [1, heads], or
// undefined. Returns [T, heads * head_dim].
at::Tensor attend(const model::Attention& spec, const at::Tensor& q_THD, const at::Tensor& k_THD,
                  const at::Tensor& v_THD, const at::Tensor& sinks_1H) {
  const Index length = q_THD.size(0), heads = q_THD.size(1), dim = q_THD.size(2);
  const Index kv_heads = k_THD.size(1);
  const Index group = heads / kv_heads;
  // Queries of the heads that share keys are rows of one matrix, position-major.
  const at::Tensor queries =
      q_THD.reshape({length, kv_heads, group, dim}).permute({1, 0, 2, 3}).contiguous();
  const at::Tensor keys_HSD = k_THD.permute({1, 0, 2}).contiguous();
  const at::Tensor values_HSD = v_THD.permute({1, 0, 2}).contiguous();
  const at::Tensor out_TN = at::empty({length, heads * dim}, q_THD.options());
  const Index positions = std::clamp<Index>(kScoreElements / (heads * length), 1, length);
  for (Index first = 0; first < length; first += positions) {
    const Span rows{first, std::min(positions, length - first)};
    const Index first_key = spec.window == 0 ? 0 : std::max<Index>(0, first - spec.window + 1);
    const Span keys{first_key, rows.end() - first_key};
    const at::Tensor chunk =
        queries.narrow(1, rows.first, rows.count).reshape({kv_heads, rows.count * group, dim});
    at::Tensor scores = at::bmm(chunk, keys_HSD.narrow(1, keys.first, keys.count).transpose(1, 2));
    if (spec.softcap > 0) scores.div_(spec.softcap).tanh_().mul_(spec.softcap);
    scores.view({kv_heads, rows.count, group, keys.count})
        .masked_fill_(
            hidden_keys(rows, keys, spec.window, q_THD.device()).unsqueeze(1).unsqueeze(0),
            -std::numeric_limits<double>::infinity());
    if (sinks_1H.defined())  // one more key, whose value is nothing
      scores = at::cat({scores, sinks_1H.view({kv_heads, 1, group, 1})
                                    .expand({kv_heads, rows.count, group, 1})
                                    .reshape({kv_heads, rows.count * group, 1})},
                       2);
    const at::Tensor weights = at::_softmax(scores, 2, /*half_to_float=*/false);
    const at::Tensor sums =
        at::bmm(weights.narrow(2, 0, keys.count), values_HSD.narrow(1, keys.first, keys.count));
    out_TN.narrow(0, rows.first, rows.count)
        .copy_(sums.view({kv_heads, rows.count, group, dim})
                   .permute({1, 0, 2, 3})
                   .reshape({rows.count, heads * dim}));
  }
  return out_TN;
}

class TensorAttention : public TwoSiteTensorMixer {
 public:
  explicit TensorAttention(const TensorHalf& half)
      : TwoSiteTensorMixer(half),
        spec_(half.mixer<model::Attention>()),
        rotary_(spec_.rope ? &half.states.rotary(*spec_.rope, spec_.head_dim) : nullptr) {
    if (half.keeps != nullptr)
      for (const model::KeptRows& rows : spec_.keeps()) left_.push_back(half.keeps->kept(rows));
    for (const model::KeptRows& rows : spec_.taken())
      taken_.push_back(half.states.all_kept().at(rows.name));
  }

 private:
  struct Rows {  // a sequence's, among those of all
    Index first = 0;
    Index count = 0;
  };
  using RoundRows = void (KvCacheRounding::*)(const KvRows&) const;

  at::Tensor inner(const at::Tensor& normed_TH, const TensorBatch& batch) const override {
    std::vector<at::Tensor> qkv;
    for (const Linear& linear : linears(model::Attention::kIn)) qkv.push_back(linear(normed_TH));
    if (spec_.values_are_keys) qkv.push_back(qkv.back());
    if (qkv.size() == 1 && taken_.empty()) {
      const Index q = spec_.query_channels(), k = spec_.key_channels();
      qkv = qkv.front().split_with_sizes({q, k, k}, 1);
    }
    std::vector<at::Tensor> sequences;
    Index first = 0;
    const auto [q_TN, gate_TN] = queries_and_gates(qkv[0]);
    const at::Tensor sinks = spec_.sinks ? upload(*spec_.sinks) : at::Tensor();
    for (const Index length : batch.lengths) {
      const Rows own{batch.first_row + first, length};
      const auto [k_THD, v_THD] =
          taken_.empty() ? keys_and_values(qkv[1].narrow(0, first, length),
                                           qkv[2].narrow(0, first, length), own)
                         : std::pair(kept_heads(taken_[0], own), kept_heads(taken_[1], own));
      sequences.push_back(attend(spec_, queries(q_TN.narrow(0, first, length)), k_THD, v_THD, sinks)
                              .to(half_.compute));
      first += length;
    }
    const at::Tensor attended_TN = at::cat(sequences, 0);
    return gate_TN.defined() ? attended_TN * at::sigmoid(gate_TN) : attended_TN;
  }

  // Undefined where there are no gates.
  std::pair<at::Tensor, at::Tensor> queries_and_gates(const at::Tensor& made_TN) const {
    if (!spec_.gated) return {made_TN, {}};
    const Index rows = made_TN.size(0), width = spec_.query_channels();
    const at::Tensor heads = made_TN.reshape({rows, spec_.heads, 2, spec_.head_dim});
    return {heads.select(2, 0).reshape({rows, width}), heads.select(2, 1).reshape({rows, width})};
  }

  at::Tensor queries(const at::Tensor& q_TN) const {
    const double scale = spec_.query_scale > 0
                             ? spec_.query_scale
                             : 1.0 / std::sqrt(static_cast<double>(spec_.head_dim));
    const at::Tensor q_THD = heads_of(q_TN, spec_.heads, spec_.q_norm);
    return (rotary_ != nullptr ? rotary_->turn_queries(q_THD) : q_THD) * scale;
  }

  // As attention uses them, and as they are left for later layers.
  std::pair<at::Tensor, at::Tensor> keys_and_values(const at::Tensor& k_TN, const at::Tensor& v_TN,
                                                    Rows own) const {
    at::Tensor k_THD = heads_of(k_TN, spec_.kv_heads, spec_.k_norm);
    if (rotary_ != nullptr) k_THD = rotary_->turn(k_THD);
    k_THD = through_cache(k_THD, &KvCacheRounding::round_keys);
    const at::Tensor v_THD =
        through_cache(heads_of(v_TN, spec_.kv_heads, spec_.v_norm), &KvCacheRounding::round_values);
    if (!left_.empty()) {
      left_[0].narrow(0, own.first, own.count).copy_(k_THD.flatten(1));
      left_[1].narrow(0, own.first, own.count).copy_(v_THD.flatten(1));
    }
    return {k_THD, v_THD};
  }

  at::Tensor kept_heads(const at::Tensor& rows_TN, Rows own) const {
    return rows_TN.narrow(0, own.first, own.count)
        .view({own.count, spec_.kv_heads, spec_.head_dim});
  }

  // On the host, where the block types' arithmetic is.
  at::Tensor through_cache(const at::Tensor& rows_THD, RoundRows round) const {
    if (half_.kv_cache == nullptr) return rows_THD;
    at::Tensor rows_SD = rows_THD.cpu().contiguous().view({-1, spec_.head_dim}).clone();
    (half_.kv_cache->*round)({.layer = half_.block.layer,
                              .heads = spec_.kv_heads,
                              .by_head = false,
                              .rows_SD = view_of<float>(rows_SD)});
    return rows_SD.view(rows_THD.sizes()).to(half_.device);
  }

  at::Tensor heads_of(const at::Tensor& rows_TN, Index heads,
                      const std::optional<model::NormSpec>& norm) const {
    const std::vector<std::int64_t> shape{rows_TN.size(0), heads, spec_.head_dim};
    const at::Tensor wide_TN = rows_TN.to(at::kFloat);
    if (!norm) return wide_TN.reshape(shape);
    if (spec_.whole_norms) return apply_norm(*norm, wide_TN).reshape(shape);
    return apply_norm(*norm, wide_TN.reshape(shape));
  }

  const model::Attention& spec_;
  const TensorRotary* rotary_;  // null: no positions
  // Keys and values of all tokens: for later layers, and an earlier layer's; empty: none.
  std::vector<at::Tensor> left_, taken_;
};

}  // namespace

std::unique_ptr<TensorMixer> make_tensor_attention(const TensorHalf& half) {
  return std::make_unique<TensorAttention>(half);
}

}  // namespace calque::forward
