#pragma once

#include "calque/core/matrix.h"
#include "kernels/cuda/arithmetic.cuh"

namespace calque::cuda {

constexpr int kWarp = 32;
constexpr unsigned kAllLanes = 0xffffffffu;

// Of a block whose warps take a row each.
constexpr int kWarpsABlock = 8;

__device__ inline int lane_of_thread() { return static_cast<int>(threadIdx.x) % kWarp; }
__device__ inline int warp_of_thread() { return static_cast<int>(threadIdx.x) / kWarp; }
__device__ inline Index row_of_warp() {
  return static_cast<Index>(blockIdx.x) * kWarpsABlock + warp_of_thread();
}
inline dim3 blocks_for_rows(Index rows) {
  return dim3(static_cast<unsigned>((rows + kWarpsABlock - 1) / kWarpsABlock));
}

// The sum of all lanes' values, in every lane; always added in the same order.
__device__ inline double warp_sum(double value) {
  for (int distance = kWarp / 2; distance > 0; distance /= 2)
    value = add(value, __shfl_xor_sync(kAllLanes, value, distance));
  return value;
}

}  // namespace calque::cuda
