#pragma once

#include "calque/forward/block_runner.h"
#include "forward/cpu/products.h"
#include "forward/cpu/rows.h"

namespace calque::forward {

template <typename T>
class CpuHead : public Head {
 public:
  CpuHead(const model::ModelConfig& config, MatrixView<const float> norm_1H,
          MatrixView<const float> head_VH);

  void logits(const HiddenStates& hidden, Index sequence, Index first,
              MatrixView<float> logits_TV) const override;

 private:
  void project(MatrixView<const T> normed_TH, MatrixView<float> logits_TV) const;

  Matrix<float> norm_1H_;
  Matrix<float> head_VH_;  // empty in bf16, where the linear has its own copy
  PreparedLinear<T> linear_;
  NormWeight norm_;
  float softcap_;
};

}  // namespace calque::forward
