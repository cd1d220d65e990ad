#pragma once

#include "calque/core/matrix.h"
#include "kernels/cuda/arithmetic.cuh"

namespace calque::cuda {

constexpr int kWarp = 32;
constexpr unsigned kAllLanes = 0xffffffffu;

// A block has so many warps where each takes a row.
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

// A block of columns that a warp visits one after the other for a row of its own: lane l holds the
// columns l, l + 32, l + 64, l + 96 in registers, and the block's upper triangle (of the factor or
// the Hessian) is packed in shared memory, row after row.
constexpr int kBlockColumns = 128;
constexpr int kSlots = kBlockColumns / kWarp;

// The place of element (row, row) of a packed upper triangle of `width` columns.
__host__ __device__ inline int triangle_diagonal(int row, int width) {
  return row * width - row * (row - 1) / 2;
}
inline std::size_t triangle_bytes(int width) {
  return static_cast<std::size_t>(width) * static_cast<std::size_t>(width + 1) / 2 * sizeof(float);
}

// The upper triangle of `square` [width, width] by the whole block; __syncthreads() comes after.
__device__ inline void load_triangle(const float* square, Index stride, int width,
                                     float* triangle) {
  for (int row = warp_of_thread(); row < width; row += kWarpsABlock) {
    float* packed = triangle + triangle_diagonal(row, width) - row;
    for (int col = row + lane_of_thread(); col < width; col += kWarp)
      packed[col] = square[row * stride + col];
  }
}

}  // namespace calque::cuda
