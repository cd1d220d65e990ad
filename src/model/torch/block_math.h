#pragma once

#include <map>
#include <vector>

#include "calque/model/block_runner.h"
#include "model/torch/attention.h"
#include "model/torch/linear.h"

namespace calque::model {

// The arithmetic of one block on one sequence, cut at the input sites. T is the compute type.
// Each step runs on the calling thread.
template <typename T>
class BlockMath {
 public:
  BlockMath(const BlockSpec& block, const BlockWeights& weights, const ModelConfig& config,
            const Rotary& rotary)
      : block_(block), weights_(weights), config_(config), rotary_(rotary) {}

  // Takes the weights of the site's readers as they are now.
  void prepare(SiteKind kind) {
    linears_.insert_or_assign(kind, model::prepare<T>(block_.site(kind), weights_));
  }

  Index attention_width() const { return config_.num_heads * config_.head_dim; }
  Index mlp_width() const { return config_.intermediate_size; }

  // The inputs of attn_in and mlp_in.
  void attn_norm(MatrixView<const float> hidden_TH, MatrixView<T> out_TH) const;
  void mlp_norm(MatrixView<const float> hidden_TH, MatrixView<T> out_TH) const;
  // From the hidden states to the inputs of attn_out and mlp_out.
  void attention(MatrixView<const float> hidden_TH, MatrixView<T> out_TN) const;
  void activation(MatrixView<const float> hidden_TH, MatrixView<T> out_TN) const;
  // Adds what the last linear of a half makes of `inputs_TK` to the hidden states.
  void add_output(SiteKind kind, MatrixView<const T> inputs_TK, MatrixView<float> hidden_TH) const;

 private:
  float eps() const { return static_cast<float>(config_.rms_norm_eps); }
  AttentionSpec attention_spec() const;

  const BlockSpec& block_;
  const BlockWeights& weights_;
  const ModelConfig& config_;
  const Rotary& rotary_;
  std::map<SiteKind, std::vector<PreparedLinear<T>>> linears_;
};

}  // namespace calque::model
