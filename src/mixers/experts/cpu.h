#pragma once

#include "forward/cpu/mixer.h"
#include "mixers/experts/spec.h"

namespace calque::forward {

template <typename T>
std::unique_ptr<CpuMixer<T>> make_experts(const CpuHalf<T>& half);

}  // namespace calque::forward
