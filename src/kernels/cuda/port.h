#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>

#include "kernels/cuda/check.h"

// The few names in which a kernel's source differs between nvcc and the tests' emulation
// (tests/kernels/cuda/emulation), which runs kernels on the CPU when a host compiler reads them.
//
//   CALQUE_SHARED(float, tile, [16][65]);       shared array of a block
//   float* rows = dynamic_shared<float>();      the launch's dynamic shared memory, 16-byte aligned
//   launch(kernel, grid, block, shared_bytes, stream, arguments...);
//
// Kernels keep to what both understand: block sizes in multiples of 32, no inline PTX, explicit
// fmaf in a fixed order, so that device, emulation and the CPU's answer can be compared bit by bit.

#if defined(__CUDACC__)

#include <cuda_runtime.h>

#define CALQUE_SHARED(T, name, ...) __shared__ T name __VA_ARGS__

namespace calque::cuda {

template <typename T>
__device__ T* dynamic_shared() {
  extern __shared__ __align__(16) unsigned char calque_dynamic_shared[];
  return reinterpret_cast<T*>(calque_dynamic_shared);
}

}  // namespace calque::cuda

#else

#include "kernels/cuda/emulation/emulation.h"

#define CALQUE_SHARED(T, name, ...)  \
  using name##_type = T __VA_ARGS__; \
  name##_type& name = ::calque::emulation::shared<name##_type, decltype([] {})>()

namespace calque::cuda {

template <typename T>
T* dynamic_shared() {
  return ::calque::emulation::dynamic_shared<T>();
}

}  // namespace calque::cuda

#endif

namespace calque::cuda {

// Queues a kernel; throws calque::Error where the launch is refused. Every dimension of `grid` must
// be at least 1.
template <typename... Parameters, typename... Arguments>
void launch(void (*kernel)(Parameters...), dim3 grid, dim3 block, std::size_t shared_bytes,
            cudaStream_t stream, Arguments&&... arguments) {
#if defined(__CUDACC__)
  kernel<<<grid, block, shared_bytes, stream>>>(static_cast<Parameters>(arguments)...);
  check(cudaGetLastError(), "launching a kernel");
#else
  static_cast<void>(stream);  // everything is done when it is queued
  check(emulation::run(reinterpret_cast<const void*>(kernel), grid, block, shared_bytes,
                       [&] { kernel(static_cast<Parameters>(arguments)...); }),
        "launching a kernel");
#endif
}

// Kernels that want more than 48 KiB of dynamic shared memory ask first.
template <typename... Parameters>
void allow_dynamic_shared(void (*kernel)(Parameters...), std::size_t bytes) {
#if defined(__CUDACC__)
  check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                             static_cast<int>(bytes)),
        "asking for dynamic shared memory");
#else
  check(emulation::allow_dynamic_shared(reinterpret_cast<const void*>(kernel), bytes),
        "asking for dynamic shared memory");
#endif
}

}  // namespace calque::cuda
