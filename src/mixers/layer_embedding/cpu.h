#pragma once

#include "forward/cpu/mixer.h"
#include "mixers/layer_embedding/spec.h"

namespace calque::forward {

template <typename T>
std::unique_ptr<CpuMixer<T>> make_layer_embedding(const CpuHalf<T>& half);

}  // namespace calque::forward
