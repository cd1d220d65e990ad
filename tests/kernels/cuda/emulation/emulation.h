#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime_api.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <type_traits>

#include "kernels/cuda/emulation/machine.h"

// A kernel's source needs this of CUDA when a host compiler reads it (kernels/cuda/port.h includes
// this file then).

namespace calque::emulation {

template <typename Tag>
inline const int kSharedArray = new_shared_array();

template <typename T, typename Tag>
T& shared() {
  return *static_cast<T*>(shared_array(kSharedArray<Tag>, sizeof(T)));
}

template <typename T>
T* dynamic_shared() {
  return static_cast<T*>(dynamic_shared_memory());
}

enum class Shuffle { kIndex, kXor, kDown, kUp };

// The lane a shuffle reads (CUDA C++ programming guide, "Warp Shuffle Functions").
inline int source_lane(Shuffle kind, int self, int operand, int width) {
  const int begin = self & ~(width - 1);
  const int end = begin + width;
  switch (kind) {
    case Shuffle::kIndex:
      return begin + (operand & (width - 1));
    case Shuffle::kXor:
      return (self ^ operand) < end ? self ^ operand : self;
    case Shuffle::kDown:
      return self + operand < end ? self + operand : self;
    case Shuffle::kUp:
      return self - operand >= begin ? self - operand : self;
  }
  return self;
}

template <typename T>
T shuffle(Shuffle kind, Place place, unsigned mask, T value, int operand, int width = 32) {
  static_assert(sizeof(T) <= sizeof(std::uint64_t) && std::is_trivially_copyable_v<T>);
  std::uint64_t bits = 0;
  std::memcpy(&bits, &value, sizeof(T));
  bits = exchange(mask, bits, source_lane(kind, lane(), operand, width), place);
  std::memcpy(&value, &bits, sizeof(T));
  return value;
}

template <typename T, typename Combine>
T atomic_update(T* address, Combine combine) {
  T before;
  __atomic_load(address, &before, __ATOMIC_RELAXED);
  for (T after = combine(before); !__atomic_compare_exchange(address, &before, &after, true,
                                                             __ATOMIC_RELAXED, __ATOMIC_RELAXED);)
    after = combine(before);
  return before;
}

}  // namespace calque::emulation

#undef __launch_bounds__
#define __launch_bounds__(...)
// Would be a variable of one thread here.
#undef __shared__
#define __shared__ calque_kernels_declare_shared_arrays_with_CALQUE_SHARED

#define threadIdx (::calque::emulation::thread_index())
#define blockIdx (::calque::emulation::block_index())
#define blockDim (::calque::emulation::block_size())
#define gridDim (::calque::emulation::grid_size())

#define CALQUE_EMULATION_HERE (::calque::emulation::Place{__FILE__, __LINE__})
#define CALQUE_EMULATION_FIRST(first, ...) first

#define __syncthreads() ::calque::emulation::sync_block(CALQUE_EMULATION_HERE)
#define __syncwarp(...)                                                                          \
  ::calque::emulation::sync_warp(CALQUE_EMULATION_FIRST(__VA_ARGS__ __VA_OPT__(, ) 0xffffffffu), \
                                 CALQUE_EMULATION_HERE)
#define CALQUE_EMULATION_SHUFFLE(kind, ...)                                               \
  ::calque::emulation::shuffle(::calque::emulation::Shuffle::kind, CALQUE_EMULATION_HERE, \
                               __VA_ARGS__)
#define __shfl_sync(...) CALQUE_EMULATION_SHUFFLE(kIndex, __VA_ARGS__)
#define __shfl_xor_sync(...) CALQUE_EMULATION_SHUFFLE(kXor, __VA_ARGS__)
#define __shfl_down_sync(...) CALQUE_EMULATION_SHUFFLE(kDown, __VA_ARGS__)
#define __shfl_up_sync(...) CALQUE_EMULATION_SHUFFLE(kUp, __VA_ARGS__)
#define __ballot_sync(mask, value) \
  ::calque::emulation::ballot(mask, static_cast<bool>(value), CALQUE_EMULATION_HERE)
#define __any_sync(mask, value) (__ballot_sync(mask, value) != 0)
#define __all_sync(mask, value) (__ballot_sync(mask, value) == (mask))

template <typename T>
T atomicAdd(T* address, std::type_identity_t<T> value) {
  return ::calque::emulation::atomic_update(address, [=](T old) { return T(old + value); });
}
template <typename T>
T atomicOr(T* address, std::type_identity_t<T> value) {
  return ::calque::emulation::atomic_update(address, [=](T old) { return T(old | value); });
}
template <typename T>
T atomicMax(T* address, std::type_identity_t<T> value) {
  return ::calque::emulation::atomic_update(address,
                                            [=](T old) { return old < value ? value : old; });
}
template <typename T>
T atomicMin(T* address, std::type_identity_t<T> value) {
  return ::calque::emulation::atomic_update(address,
                                            [=](T old) { return value < old ? value : old; });
}

template <typename T>
T __ldg(const T* address) {
  return *address;
}
inline float __uint_as_float(unsigned bits) { return std::bit_cast<float>(bits); }
inline unsigned __float_as_uint(float value) { return std::bit_cast<unsigned>(value); }
inline float __int_as_float(int bits) { return std::bit_cast<float>(bits); }
inline int __float_as_int(float value) { return std::bit_cast<int>(value); }
inline int __popc(unsigned value) { return std::popcount(value); }
inline int __clz(int value) { return std::countl_zero(static_cast<unsigned>(value)); }
inline int __ffs(int value) {
  return value == 0 ? 0 : std::countr_zero(static_cast<unsigned>(value)) + 1;
}
// IEEE arithmetic that is never fused: what a host compiler does with -ffp-contract=off.
inline float __fadd_rn(float a, float b) { return a + b; }
inline float __fsub_rn(float a, float b) { return a - b; }
inline float __fmul_rn(float a, float b) { return a * b; }
inline float __fdiv_rn(float a, float b) { return a / b; }
inline float __fsqrt_rn(float a) { return std::sqrt(a); }
inline float __fmaf_rn(float a, float b, float c) { return std::fma(a, b, c); }
inline double __dadd_rn(double a, double b) { return a + b; }
inline double __dsub_rn(double a, double b) { return a - b; }
inline double __dmul_rn(double a, double b) { return a * b; }
inline double __ddiv_rn(double a, double b) { return a / b; }
inline double __dsqrt_rn(double a) { return std::sqrt(a); }

// CUDA has these in the global namespace.
using std::max;
using std::min;
