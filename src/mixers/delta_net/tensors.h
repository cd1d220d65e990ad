#pragma once

#include "forward/torch/tensor_mixer.h"
#include "mixers/delta_net/spec.h"

namespace calque::forward {

std::unique_ptr<TensorMixer> make_tensor_delta_net(const TensorHalf& half);

}  // namespace calque::forward
