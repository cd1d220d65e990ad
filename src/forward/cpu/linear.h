#pragma once

#include <type_traits>
#include <vector>

#include "calque/model/family.h"
#include "calque/model/weight_source.h"
#include "forward/cpu/packed_weights.h"

namespace calque::forward {

// A linear's weights in the precision the forward pass computes in.
template <typename T>
class PreparedLinear {
 public:
  // fp32 weights are borrowed from `weight_NK`; bf16 ones are rounded copies. `bias_1N` (may be
  // empty) is borrowed.
  PreparedLinear(MatrixView<const float> weight_NK, MatrixView<const float> bias_1N)
      : weight_NK_(weight_NK), bias_1N_(bias_1N), out_features_(weight_NK.rows()) {}

  Index out_features() const { return out_features_; }
  // outputs_TN = inputs_TK * weight_NK^T + bias.
  void apply(MatrixView<const T> inputs_TK, MatrixView<T> outputs_TN) const;

 private:
  std::conditional_t<std::is_same_v<T, float>, MatrixView<const float>, PackedWeights> weight_NK_;
  MatrixView<const float> bias_1N_;
  Index out_features_ = 0;
};

template <typename T>
std::vector<PreparedLinear<T>> prepare(const model::SiteSpec& site, const model::BlockWeights& weights);

}  // namespace calque::forward
