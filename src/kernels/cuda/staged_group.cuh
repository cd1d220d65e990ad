#pragma once

#include "kernels/cuda/group_range.cuh"

namespace calque::cuda {

// A warp's group, read a tile at a time through shared memory; padded to whole vectors of kLanes
// with its first weight at importance 0.
class StagedGroup {
 public:
  static constexpr int kTile = 512;
  static constexpr std::size_t kSharedFloats = 2 * kTile;  // a warp

  // `importance` may be null: all ones. `shared`: of this warp, 16-byte aligned.
  __device__ StagedGroup(const float* weights, const float* importance, int size, float* shared)
      : weights_(weights),
        importance_(importance),
        size_(size),
        padded_((size + kLanes - 1) / kLanes * kLanes),
        x_(shared),
        h_(shared + kTile) {}

  // body(lane, weight, importance) for every entry; every thread sees all of them, in order.
  template <typename Body>
  __device__ void for_each(Body body) {
    for (int tile = 0; tile * kTile < padded_; ++tile) {
      stage(tile);
      const int count = min(kTile, padded_ - tile * kTile);
      for (int k = 0; k < count; k += kLanes) {
#pragma unroll
        for (int lane = 0; lane < kLanes; lane += 4) {
          const float4 x = *reinterpret_cast<const float4*>(x_ + k + lane);
          const float4 h = *reinterpret_cast<const float4*>(h_ + k + lane);
          body(lane, x.x, h.x);
          body(lane + 1, x.y, h.y);
          body(lane + 2, x.z, h.z);
          body(lane + 3, x.w, h.w);
        }
      }
    }
  }

 private:
  __device__ void stage(int tile) {
    if (tile == staged_) return;
    __syncwarp();
    const int first = tile * kTile;
    for (int i = lane_of_thread(); i < min(kTile, padded_ - first); i += kWarp) {
      const int k = first + i;
      x_[i] = weights_[k < size_ ? k : 0];
      h_[i] = k >= size_ ? 0.0f : importance_ == nullptr ? 1.0f : importance_[k];
    }
    __syncwarp();
    staged_ = tile;
  }

  const float* weights_;
  const float* importance_;
  int size_, padded_;
  float* x_;
  float* h_;
  int staged_ = -1;
};

}  // namespace calque::cuda
