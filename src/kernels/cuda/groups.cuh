#pragma once

#include "kernels/cuda/warp.cuh"

// kernels/cpu/group_fit.h for a warp with a group of its own; every lane has the result.

namespace calque::cuda {

// Sums over a group go by this many lanes, as the CPU's vectors do.
constexpr int kLanes = 16;

struct GroupGrid {
  float scale, offset;
};

struct GroupRange {
  float lowest, highest;
  float extreme;  // the first entry of largest magnitude
};

struct GridOptions {
  int bits, min_zero;
  OffsetKind offset_kind;
  Storage storage;
};

__device__ inline float smaller(float a, float b) { return b < a ? b : a; }
__device__ inline float larger(float a, float b) { return a < b ? b : a; }

__device__ inline float first_of_magnitude(const float* weights, int size, float magnitude) {
  int first = size;
  for (int k = size - 1 - lane_of_thread(); k >= 0; k -= kWarp)
    if (fabsf(weights[k]) == magnitude) first = k;
  for (int distance = kWarp / 2; distance > 0; distance /= 2)
    first = min(first, __shfl_xor_sync(kAllLanes, first, distance));
  return weights[first < size ? first : 0];
}

// In the CPU's order, which decides between zeros of different sign.
__device__ inline GroupRange range_of(const float* weights, int size) {
  const int whole = size / kLanes * kLanes;
  float low = weights[0], high = weights[0];
  for (int k = lane_of_thread() % kLanes; k < whole; k += kLanes) {
    low = smaller(low, weights[k]);
    high = larger(high, weights[k]);
  }
  float lowest = weights[0], highest = weights[0];
  for (int lane = 0; lane < kLanes; ++lane) {
    lowest = smaller(lowest, __shfl_sync(kAllLanes, low, lane));
    highest = larger(highest, __shfl_sync(kAllLanes, high, lane));
  }
  for (int k = whole; k < size; ++k) {
    lowest = smaller(lowest, weights[k]);
    highest = larger(highest, weights[k]);
  }
  if (highest != -lowest) return {lowest, highest, highest > -lowest ? highest : lowest};
  return {lowest, highest, first_of_magnitude(weights, size, highest)};
}

__device__ inline int bounded_zero(float zero, const GridOptions& options) {
  const float lowest = static_cast<float>(options.min_zero);
  const float highest = static_cast<float>((1 << options.bits) - 1);
  return static_cast<int>(rintf(zero < lowest ? lowest : highest < zero ? highest : zero));
}

__device__ inline GroupGrid grid_through_zero(float scale, int zero, const GridOptions& options) {
  const float rounded = stored_scale(scale, options.storage);
  return {rounded, mul(-rounded, static_cast<float>(zero))};
}

__device__ inline GroupGrid covering_grid(const GroupRange& range, ScaleRule rule,
                                          const GridOptions& options) {
  const int middle = 1 << (options.bits - 1);
  const float codes = static_cast<float>((1 << options.bits) - 1);
  const float low = smaller(range.lowest, 0.0f);
  const float high = larger(range.highest, 0.0f);
  const float range_scale = sub(div(high, codes), div(low, codes));  // cannot overflow
  switch (options.offset_kind) {
    case OffsetKind::kMiddleCode:
      if (rule == ScaleRule::kMinMax)
        return grid_through_zero(mul(2.0f, div(fabsf(range.extreme), codes)), middle, options);
      return grid_through_zero(div(-range.extreme, static_cast<float>(middle)), middle, options);
    case OffsetKind::kZeroPoint: {
      const float scale = stored_scale(range_scale, options.storage);
      return grid_through_zero(scale, bounded_zero(div(-low, scale), options), options);
    }
    case OffsetKind::kMinimum:
      break;
  }
  return {stored_scale(range_scale, options.storage), stored(low, options.storage)};
}

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
