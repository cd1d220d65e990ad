#pragma once

#include "forward/torch/tensor_mixer.h"
#include "mixers/layer_embedding/spec.h"

namespace calque::forward {

std::unique_ptr<TensorMixer> make_tensor_layer_embedding(const TensorHalf& half);

}  // namespace calque::forward
