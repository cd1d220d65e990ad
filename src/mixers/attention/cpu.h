#pragma once

#include "forward/cpu/mixer.h"
#include "mixers/attention/spec.h"

namespace calque::forward {

template <typename T>
std::unique_ptr<CpuMixer<T>> make_attention(const CpuHalf<T>& half);

}  // namespace calque::forward
