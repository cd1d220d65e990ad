#pragma once

#include <ATen/core/Tensor.h>

#include <span>
#include <vector>

#include "calque/forward/block_runner.h"
#include "forward/rotary.h"

namespace calque::forward {

// Cosines and sines of Rotary's angles, [positions, head_dim / 2] each, on the device.
class TensorRotary {
 public:
  TensorRotary(const model::RopeSpec& rope, Index head_dim, Index positions,
               const at::Device& device);

  // heads_THD [T, heads, head_dim], fp32, of the sequence's first T positions, turned.
  at::Tensor turn(const at::Tensor& heads_THD) const;

 private:
  at::Tensor cosines_;
  at::Tensor sines_;
};

// Consecutive sequences whose rows go through a linear together.
struct TensorBatch {
  Index first_row = 0;
  Index rows = 0;
  std::vector<Index> lengths;  // of its sequences; their sum is `rows`
};

// The residual stream of all sequences, one after the other without padding, in fp32, on one
// device.
class TensorStates : public HiddenStates {
 public:
  TensorStates(const model::ModelConfig& config, Index hidden_size, std::span<const Index> lengths,
               const at::Device& device);

  Index sequences() const override { return static_cast<Index>(lengths_.size()); }
  Index length(Index sequence) const override {
    return lengths_[static_cast<std::size_t>(sequence)];
  }

  Index rows() const { return rows_TH_.size(0); }
  const at::Tensor& all_TH() const { return rows_TH_; }
  // Views.
  at::Tensor rows_TH(Index first, Index count) const { return rows_TH_.narrow(0, first, count); }
  at::Tensor sequence_TH(Index sequence) const {
    return rows_TH(firsts_[static_cast<std::size_t>(sequence)], length(sequence));
  }
  // Sequences in order, cut where enough rows have come together; none without rows.
  const std::vector<TensorBatch>& batches() const { return batches_; }
  const TensorRotary& rotary(const model::BlockSpec& block) const {
    return block.local_rope ? local_rotary_ : rotary_;
  }

 private:
  std::vector<Index> lengths_;
  std::vector<Index> firsts_;
  std::vector<TensorBatch> batches_;
  TensorRotary rotary_;  // for the longest
  TensorRotary local_rotary_;
  at::Tensor rows_TH_;
};

}  // namespace calque::forward
