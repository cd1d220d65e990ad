#pragma once

#include "forward/torch/tensor_mixer.h"
#include "mixers/experts/spec.h"

namespace calque::forward {

std::unique_ptr<TensorMixer> make_tensor_experts(const TensorHalf& half);

}  // namespace calque::forward
