#include "kernels/cuda/emulation_kernels.h"
#include "kernels/cuda/port.h"

// A sum with one mistake of each kind: the emulation must notice every one (emulation_test.cpp).

namespace calque::emulation_test {
namespace {

using cuda::dynamic_shared;
using cuda::launch;

constexpr int kThreads = 256;
constexpr unsigned kAllLanes = 0xffffffffu;

template <Bug kBug>
__global__ void sum_kernel(const float* values, int count, float* total) {
  CALQUE_SHARED(float, partial, [kThreads]);
  const int t = static_cast<int>(threadIdx.x);

  if (kBug == Bug::kOverrun && t == kThreads - 1) (&partial[0])[t + 1] = 0.0f;
  if (kBug != Bug::kUninitialized || t < count) partial[t] = t < count ? values[t] : 0.0f;
  if (kBug == Bug::kDivergentBarrier && t < kThreads / 2)
    __syncthreads();
  else if (kBug != Bug::kNoBarrier)
    __syncthreads();

  for (int half = kThreads / 2; half >= 32; half /= 2) {
    if (t < half) partial[t] += partial[t + half];
    if (kBug == Bug::kSkippedBarrier && t == 0 && half == 64) continue;
    __syncthreads();
  }
  if (t >= 32) return;

  for (int half = 16; half > 1; half /= 2) {
    const float both = partial[t] + partial[(t + half) % 32];
    __syncwarp();
    partial[t] = both;
    if (kBug != Bug::kNoWarpBarrier) __syncwarp();
  }
  if (kBug == Bug::kExitedLane && t >= 16) return;
  const unsigned mask = kBug == Bug::kWrongMask && t == 7 ? 0xffu : kAllLanes;
  const float other = __shfl_xor_sync(mask, partial[t], 1);
  if (t == 0) *total = partial[0] + other;
}

__global__ void dynamic_sum_kernel(const float* values, int count, float* total) {
  float* const copy = dynamic_shared<float>();
  for (int i = static_cast<int>(threadIdx.x); i < count; i += static_cast<int>(blockDim.x))
    copy[i] = values[i];
  __syncthreads();
  if (threadIdx.x != 0) return;
  float sum = 0.0f;
  for (int i = 0; i < count; ++i) sum += copy[i];
  *total = sum;
}

template <Bug kBug>
float run(const std::vector<float>& values) {
  float total = -1.0f;
  launch(sum_kernel<kBug>, dim3(1), dim3(kThreads), 0, nullptr, values.data(),
         static_cast<int>(values.size()), &total);
  return total;
}

}  // namespace

float sum(const std::vector<float>& values, Bug bug) {
  switch (bug) {
    case Bug::kNone:
      return run<Bug::kNone>(values);
    case Bug::kNoBarrier:
      return run<Bug::kNoBarrier>(values);
    case Bug::kDivergentBarrier:
      return run<Bug::kDivergentBarrier>(values);
    case Bug::kSkippedBarrier:
      return run<Bug::kSkippedBarrier>(values);
    case Bug::kOverrun:
      return run<Bug::kOverrun>(values);
    case Bug::kUninitialized:
      return run<Bug::kUninitialized>(values);
    case Bug::kExitedLane:
      return run<Bug::kExitedLane>(values);
    case Bug::kWrongMask:
      return run<Bug::kWrongMask>(values);
    case Bug::kNoWarpBarrier:
      return run<Bug::kNoWarpBarrier>(values);
  }
  return -1.0f;
}

float sum_in_dynamic_memory(const std::vector<float>& values, std::size_t bytes, bool ask_first) {
  float total = -1.0f;
  if (ask_first) cuda::allow_dynamic_shared(dynamic_sum_kernel, bytes);
  launch(dynamic_sum_kernel, dim3(1), dim3(kThreads), bytes, nullptr, values.data(),
         static_cast<int>(values.size()), &total);
  return total;
}

}  // namespace calque::emulation_test
