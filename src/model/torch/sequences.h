#pragma once

#include <ATen/Parallel.h>
#include <c10/core/InferenceMode.h>

#include <functional>
#include <vector>

#include "calque/core/parallel.h"
#include "calque/model/block_runner.h"
#include "model/torch/attention.h"

namespace calque::model {

// The residual stream of all sequences, one after the other without padding, in fp32.
class TorchHiddenStates : public HiddenStates {
 public:
  TorchHiddenStates(const ModelConfig& config, Index hidden_size, std::span<const Index> lengths);

  Index sequences() const override { return static_cast<Index>(firsts_.size()) - 1; }
  Index length(Index sequence) const override { return first(sequence + 1) - first(sequence); }

  // The first row of a sequence.
  Index first(Index sequence) const { return firsts_[static_cast<std::size_t>(sequence)]; }
  Index rows() const { return firsts_.back(); }
  MatrixView<float> all_TH() { return rows_TH_; }
  MatrixView<float> sequence_TH(Index sequence) {
    return rows_TH_.view().rows(first(sequence), length(sequence));
  }
  MatrixView<const float> sequence_TH(Index sequence) const {
    return rows_TH_.view().rows(first(sequence), length(sequence));
  }
  const Rotary& rotary(const BlockSpec& block) const {
    return block.local_rope ? local_rotary_ : rotary_;
  }

 private:
  std::vector<Index> firsts_;  // one more than there are sequences
  Rotary rotary_;              // for the longest
  Rotary local_rotary_;
  Matrix<float> rows_TH_;
};

// Makes ATen, and oneDNN below it, stay on the calling thread and record nothing for gradients.
class OneThread {
 public:
  OneThread() : before_(at::get_num_threads()) { at::set_num_threads(1); }
  ~OneThread() { at::set_num_threads(before_); }
  OneThread(const OneThread&) = delete;
  OneThread& operator=(const OneThread&) = delete;

 private:
  int before_;  // OpenMP keeps the number for each thread
  c10::InferenceMode inference_;
};

// calque::parallel_for with each body on one thread.
void parallel_over(Index count, int threads, const std::function<void(Index)>& body);

// Runs `body`; ATen's exceptions leave it as calque::Error.
void translate_errors(const std::function<void()>& body);

}  // namespace calque::model
