#pragma once

#include <ATen/core/Tensor.h>

#include "calque/core/matrix.h"

namespace calque::forward {

// Causal softmax attention of one sequence. q_THD [T, heads, head_dim] with the scores' scale in
// it, k_THD and v_THD [T, kv_heads, head_dim], normed and turned, fp32. Returns [T, heads *
// head_dim].
struct TensorAttention {
  Index window = 0;    // tokens seen, the own one included; 0: all before
  double softcap = 0;  // scores become cap * tanh(score / cap); 0: no cap

  at::Tensor operator()(const at::Tensor& q_THD, const at::Tensor& k_THD,
                        const at::Tensor& v_THD) const;
};

}  // namespace calque::forward
