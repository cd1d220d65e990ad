#pragma once

#include "forward/torch/tensor_mixer.h"
#include "mixers/mlp/spec.h"

namespace calque::forward {

std::unique_ptr<TensorMixer> make_tensor_mlp(const TensorHalf& half);

// act(gate) * up, or a clamped gate's rule, of what a site's linears left: gate and up, or one
// tensor with gate's columns before up's (then `up_TN` is undefined).
at::Tensor gated(const model::Activation& activation, at::Tensor gate_TN, const at::Tensor& up_TN);

}  // namespace calque::forward
