#pragma once

#include <ATen/core/Tensor.h>

#include <list>
#include <map>
#include <mutex>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "calque/forward/block_runner.h"
#include "forward/rotary.h"

namespace calque::forward {

// Cosines and sines of Rotary's angles, [positions, 1, turned(head_dim) / 2] each, on the device.
class TensorRotary {
 public:
  TensorRotary(const model::RopeSpec& rope, Index head_dim, Index positions,
               const at::Device& device);

  // heads_THD [T, heads, head_dim], fp32, of the sequence's first T positions, turned.
  at::Tensor turn(const at::Tensor& heads_THD) const;
  // The same, multiplied by RopeSpec::query_factor.
  at::Tensor turn_queries(const at::Tensor& heads_THD) const;

 private:
  // The first channels of all pairs, and the second ones.
  std::pair<at::Tensor, at::Tensor> pairs_of(const at::Tensor& heads_THD) const;

  bool adjacent_;             // RopeSpec's
  Index turned_;              // channels
  at::Tensor query_factors_;  // [positions, 1, 1]; undefined: all 1
  at::Tensor cosines_;
  at::Tensor sines_;
};

// Consecutive sequences whose rows go through a linear together.
struct TensorBatch {
  Index first_row = 0;
  Index rows = 0;
  std::vector<Index> lengths;  // its sequences'; their sum is `rows`
};

// The residual stream of all sequences, one after the other without padding, in fp32, on one
// device.
class TensorStates : public HiddenStates {
 public:
  TensorStates(Index hidden_size, std::span<const Index> lengths, const at::Device& device);

  Index sequences() const override { return static_cast<Index>(lengths_.size()); }
  Index length(Index sequence) const override {
    return lengths_[static_cast<std::size_t>(sequence)];
  }

  Index rows() const { return rows_TH_.size(0); }
  const at::Tensor& all_TH() const { return rows_TH_; }
  // Views.
  at::Tensor rows_TH(Index first, Index count) const { return rows_TH_.narrow(0, first, count); }
  at::Tensor sequence_TH(Index sequence) const { return of_sequence(rows_TH_, sequence); }
  at::Tensor of_sequence(const at::Tensor& rows_TK, Index sequence) const {
    return rows_TK.narrow(0, firsts_[static_cast<std::size_t>(sequence)], length(sequence));
  }
  TensorBatch batch_of(Index sequence) const {
    return {firsts_[static_cast<std::size_t>(sequence)], length(sequence), {length(sequence)}};
  }
  // Sequences in order, cut where enough rows have come together; none without rows.
  const std::vector<TensorBatch>& batches() const { return batches_; }

  // Rows for later blocks under this name, [rows, width], undefined when first asked for.
  const at::Tensor& kept(const model::KeptRows& rows);
  const std::map<std::string, at::Tensor>& all_kept() const { return kept_; }

  // For the longest sequence; lives as long as this.
  const TensorRotary& rotary(const model::RopeSpec& rope, Index head_dim) const;

 private:
  struct Angles {
    model::RopeSpec rope;
    Index head_dim = 0;
    TensorRotary rotary;
  };

  std::vector<Index> lengths_;
  std::vector<Index> firsts_;
  std::vector<TensorBatch> batches_;
  std::map<std::string, at::Tensor> kept_;
  mutable std::mutex mutex_;  // guards angles_
  mutable std::list<Angles> angles_;
  at::Tensor rows_TH_;
};

}  // namespace calque::forward
