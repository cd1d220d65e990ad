#pragma once

#include <ATen/core/Tensor.h>

#include "calque/forward/block_runner.h"

namespace calque::forward {

// Final norm and output projection on the device of the hidden states.
class TensorHead : public Head {
 public:
  TensorHead(const model::ModelConfig& config, MatrixView<const float> norm_1H,
             MatrixView<const float> head_VH, const at::Device& device, at::ScalarType compute);

  void logits(const HiddenStates& hidden, Index sequence, Index first,
              MatrixView<float> logits_TV) const override;

 private:
  at::Tensor norm_H_;
  at::Tensor head_VH_;
  double norm_offset_;
  double norm_eps_;
  double softcap_;
};

}  // namespace calque::forward
