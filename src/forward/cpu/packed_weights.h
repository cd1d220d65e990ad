#pragma once

#include <memory>

#include "calque/core/dtype.h"
#include "calque/core/matrix.h"

namespace calque::forward {

// A linear's weights in bf16, laid out once in the order in which oneDNN's kernels read them: for
// few rows, putting them into it costs as much as the product.
class PackedWeights {
 public:
  // Rounds to bf16. Error(kResource, "E304") without memory, as below.
  explicit PackedWeights(MatrixView<const float> weight_NK);

  Index out_features() const { return out_features_; }
  // outputs_TN = inputs_TK * weight_NK^T + bias_1N (empty: none), summed in fp32. Thread-safe.
  void apply(MatrixView<const BFloat16> inputs_TK, MatrixView<const float> bias_1N,
             MatrixView<BFloat16> outputs_TN) const;

 private:
  Index out_features_ = 0;
  Index in_features_ = 0;
  std::shared_ptr<BFloat16> packed_;
};

}  // namespace calque::forward
