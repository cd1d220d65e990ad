#pragma once

#include "forward/torch/tensor_mixer.h"
#include "mixers/attention/spec.h"

namespace calque::forward {

std::unique_ptr<TensorMixer> make_tensor_attention(const TensorHalf& half);

}  // namespace calque::forward
