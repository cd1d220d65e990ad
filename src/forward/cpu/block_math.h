#pragma once

#include <functional>
#include <map>
#include <utility>
#include <vector>

#include "calque/forward/block_runner.h"
#include "forward/cpu/products.h"
#include "forward/cpu/routing.h"
#include "forward/cpu/workspace.h"

namespace calque::forward {

// The arithmetic of one block on one sequence, cut at the input sites. T is the compute type.
// Each step runs on the calling thread, chunk by chunk of a sequence's rows, always cut at the same
// places: the bits do not depend on who calls for which step.
template <typename T>
class BlockMath {
 public:
  BlockMath(const model::BlockSpec& block, const model::BlockWeights& weights,
            const model::ModelConfig& config, const Rotary& rotary, const KvCacheRounding* kv_cache)
      : block_(block),
        weights_(weights),
        config_(config),
        rotary_(rotary),
        kv_cache_(kv_cache != nullptr && kv_cache->rounds(block.layer) ? kv_cache : nullptr) {}

  // Takes the weights of the site's readers as they are now.
  void prepare(const model::SiteSpec& site) {
    linears_.insert_or_assign({site.kind, site.expert}, forward::prepare<T>(site, weights_));
  }

  Index attention_width() const { return config_.num_heads * config_.head_dim; }
  Index mlp_width() const { return block_.site(model::SiteKind::kMlpOut).channels; }

  // The inputs of attn_in and mlp_in.
  void attn_norm(MatrixView<const float> hidden_TH, MatrixView<T> out_TH) const;
  void mlp_norm(MatrixView<const float> hidden_TH, MatrixView<T> out_TH) const;
  // From the hidden states to the inputs of attn_out and, in blocks without experts, mlp_out.
  void attention(MatrixView<const float> hidden_TH, MatrixView<T> out_TN) const;
  void activation(MatrixView<const float> hidden_TH, MatrixView<T> out_TN) const;
  // Adds what the last linear of a half makes of `inputs_TK`, normed where the family norms it.
  void add_output(model::SiteKind kind, MatrixView<const T> inputs_TK,
                  MatrixView<float> sum_TH) const;

  // From the inputs of mlp_in or of one expert to what its down reads.
  void gated(model::SiteKind kind, Index expert, MatrixView<const T> normed_TH,
             MatrixView<T> out_TN) const;
  Routing route_rows(MatrixView<const T> normed_TH) const;
  // The weighted answers to `inputs_TK`, added to their rows of `sum_TH`.
  void add_expert(Index expert, const Routing& routing, MatrixView<const T> inputs_TK,
                  MatrixView<float> sum_TH) const;
  void add_shared(MatrixView<const T> normed_TH, MatrixView<const T> inputs_TK,
                  MatrixView<float> sum_TH) const;

  // Adds what a whole half makes of `hidden_TH` (may be the same memory).
  void add_half(BlockHalf half, MatrixView<const float> hidden_TH, MatrixView<float> sum_TH) const;

  // Frees what the steps so far have left for the next ones.
  void free_workspaces() { workspaces_.clear(); }

 private:
  using Lease = typename WorkspacePool<T>::Lease;
  using TakeRows = std::function<void(Index first, MatrixView<const T> rows)>;

  const std::vector<PreparedLinear<T>>& linears(model::SiteKind kind, Index expert = -1) const {
    return linears_.at({kind, expert});
  }
  NormWeight norm_of(const model::TensorSpec& spec) const;
  NormWeight norm_of(const std::vector<model::TensorSpec>& spec) const;
  AttentionSpec attention_spec() const;
  void add_experts(MatrixView<const float> hidden_TH, MatrixView<float> sum_TH) const;
  Projections<T> project(MatrixView<const T> normed_TH, Workspace<T>& workspace) const;
  void gated_chunk(const std::vector<PreparedLinear<T>>& linears, MatrixView<const T> normed_TH,
                   Workspace<T>& workspace, MatrixView<T> out_TN) const;
  // What the last linear of a half makes of its inputs, a chunk of rows at a time.
  void down(model::SiteKind kind, Index expert, MatrixView<const T> inputs_TK,
            const TakeRows& take) const;

  const model::BlockSpec& block_;
  const model::BlockWeights& weights_;
  const model::ModelConfig& config_;
  const Rotary& rotary_;
  const KvCacheRounding* kv_cache_;  // null: none in this block
  std::map<std::pair<model::SiteKind, Index>, std::vector<PreparedLinear<T>>> linears_;
  mutable WorkspacePool<T> workspaces_;
};

}  // namespace calque::forward
