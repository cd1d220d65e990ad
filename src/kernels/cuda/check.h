#pragma once

#include <cuda_runtime_api.h>

#include <string_view>

namespace calque::cuda {

// Throws calque::Error: kResource for memory ("out of memory on cuda:0 while ..."), else kInternal
// with CUDA's own words. `doing` completes "while": "copying to the device".
void check(cudaError_t status, std::string_view doing);

}  // namespace calque::cuda
