#pragma once

#include <ATen/core/Tensor.h>

#include <map>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "calque/forward/block_runner.h"
#include "forward/torch/tensor_states.h"

namespace calque::forward {

// Which rows of a batch each expert answers, and what its answers are weighted by.
struct TensorRouting {
  struct Expert {
    at::Tensor rows;        // int64 [n], ascending
    at::Tensor weights_R1;  // fp32
    Index count() const { return rows.size(0); }
  };
  std::vector<Expert> experts;
};

// The arithmetic of one block as ATen's operators, for some sequences at a time. Norms, attention,
// routing and all sums over linears are in fp32; what linears read and make is in `compute`.
class TensorMath {
 public:
  TensorMath(const model::BlockSpec& block, const model::BlockWeights& weights,
             const model::ModelConfig& config, const TensorRotary& rotary,
             const KvCacheRounding* kv_cache, const at::Device& device, at::ScalarType compute)
      : block_(block),
        weights_(weights),
        config_(config),
        rotary_(rotary),
        kv_cache_(kv_cache != nullptr && kv_cache->rounds(block.layer) ? kv_cache : nullptr),
        device_(device),
        compute_(compute) {}

  // Takes the weights of the site's readers as they are now.
  void prepare(const model::SiteSpec& site);

  // The inputs of attn_in and mlp_in.
  at::Tensor attn_norm(const at::Tensor& hidden_TH) const;
  at::Tensor mlp_norm(const at::Tensor& hidden_TH) const;
  // From there to the inputs of attn_out; rows are sequences of these lengths.
  at::Tensor attention(const at::Tensor& normed_TH, std::span<const Index> lengths) const;
  // From the inputs of mlp_in or of one expert to what its down reads.
  at::Tensor gated(model::SiteKind kind, Index expert, const at::Tensor& normed_TH) const;
  // What the last linear of a half adds to the residual stream, normed where the family norms it.
  at::Tensor output(model::SiteKind kind, const at::Tensor& inputs_TK) const;

  TensorRouting route(const at::Tensor& normed_TH) const;
  // All experts' weighted answers, the shared one's too.
  at::Tensor experts(const at::Tensor& normed_TH) const;
  // Weighted answers, added to their rows of `sum_TH`.
  void add_expert(Index expert, const TensorRouting& routing, const at::Tensor& inputs_RK,
                  at::Tensor& sum_TH) const;
  void add_shared(const at::Tensor& normed_TH, const at::Tensor& inputs_TK,
                  at::Tensor& sum_TH) const;

 private:
  struct Linear {
    at::Tensor weight_NK;
    at::Tensor bias_N;  // undefined: none
    at::Tensor operator()(const at::Tensor& inputs_TK) const;
  };

  const std::vector<Linear>& linears(model::SiteKind kind, Index expert = -1) const {
    return linears_.at({kind, expert});
  }
  at::Tensor upload(const model::TensorSpec& spec) const;  // fp32
  at::Tensor norm(const model::TensorSpec& weight, const at::Tensor& x) const;
  at::Tensor attend(const at::Tensor& q_TN, const at::Tensor& k_TN, const at::Tensor& v_TN) const;
  using RoundRows = void (KvCacheRounding::*)(MatrixView<float>) const;
  at::Tensor through_cache(const at::Tensor& rows_THD, RoundRows round) const;
  at::Tensor heads_of(const at::Tensor& rows_TN, Index heads,
                      const std::vector<model::TensorSpec>& head_norm) const;

  const model::BlockSpec& block_;
  const model::BlockWeights& weights_;
  const model::ModelConfig& config_;
  const TensorRotary& rotary_;
  const KvCacheRounding* kv_cache_;  // null: none in this block
  at::Device device_;
  at::ScalarType compute_;
  std::map<std::pair<model::SiteKind, Index>, std::vector<Linear>> linears_;
  mutable std::map<std::string, at::Tensor> uploaded_;  // norms, router, shared gate
};

// A copy on `device`, rounded there.
at::Tensor on_device(MatrixView<const float> matrix, const at::Device& device,
                     at::ScalarType dtype);

// x / sqrt(mean(x^2) + eps) * (offset + weight) of the last dimension, fp32.
at::Tensor rms_norm(const at::Tensor& x, const at::Tensor& weight, double offset, double eps);

}  // namespace calque::forward
