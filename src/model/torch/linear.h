#pragma once

#include <ATen/core/Tensor.h>

#include "calque/model/family.h"
#include "calque/model/weight_source.h"
#include "model/torch/tensors.h"

namespace calque::model {

// A linear's weights in the precision the forward pass computes in.
template <typename T>
class PreparedLinear {
 public:
  // fp32 weights are borrowed from `weight_NK` and `bias_1N` (may be empty); bf16 ones are rounded
  // copies.
  PreparedLinear(MatrixView<const float> weight_NK, MatrixView<const float> bias_1N);

  Index out_features() const { return weight_NK_.size(0); }
  // outputs_TN = inputs_TK * weight_NK^T + bias.
  void apply(MatrixView<const T> inputs_TK, MatrixView<T> outputs_TN) const;

 private:
  at::Tensor weight_NK_;
  at::Tensor bias_1N_;  // undefined: none
};

template <typename T>
std::vector<PreparedLinear<T>> prepare(const SiteSpec& site, const BlockWeights& weights);

}  // namespace calque::model
