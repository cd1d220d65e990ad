#pragma once

#include "kernels/kernel_table.h"

namespace calque::cuda {

// libcalque_cuda.so exports this, under this name; loader.cpp looks it up.
using GetBackend = const CudaBackend* (*)();
inline constexpr const char* kGetBackend = "calque_cuda_backend";
inline constexpr const char* kPluginFile = "libcalque_cuda.so";

}  // namespace calque::cuda

extern "C" const calque::CudaBackend* calque_cuda_backend();
