#pragma once

#include "forward/cpu/mixer.h"
#include "mixers/delta_net/spec.h"

namespace calque::forward {

template <typename T>
std::unique_ptr<CpuMixer<T>> make_delta_net(const CpuHalf<T>& half);

}  // namespace calque::forward
