#pragma once

#include <cstdint>

#include "ggml/types/instruction_set.h"

#ifdef __x86_64__
#include <immintrin.h>
#endif

// A register of fp32 numbers, and the three instructions that g++ 12 does not find by itself: it
// makes a comparison and a blend of a maximum, and takes square roots one by one.
namespace calque::ggml::inline CALQUE_GGML_ISA {

constexpr int kLanes = CALQUE_GGML_LANES;

using Floats = float __attribute__((vector_size(4 * kLanes)));
using Ints = std::int32_t __attribute__((vector_size(4 * kLanes)));
using Bytes = std::uint8_t __attribute__((vector_size(kLanes)));

// at_least: v > bound ? v : bound, so a NaN lane becomes the bound; at_most likewise. These are
// exactly x86's maximum and minimum, which return their second operand for a NaN and for two zeros.
#if defined(__x86_64__) && CALQUE_GGML_LANES == 16
constexpr __mmask16 kAll = 0xffff;  // g++ 12 warns of its own header's unmasked forms
inline Floats at_least(Floats v, Floats bound) { return _mm512_maskz_max_ps(kAll, v, bound); }
inline Floats at_most(Floats v, Floats bound) { return _mm512_maskz_min_ps(kAll, v, bound); }
inline Floats square_root(Floats v) { return _mm512_maskz_sqrt_ps(kAll, v); }
#elif defined(__x86_64__) && CALQUE_GGML_LANES == 8
inline Floats at_least(Floats v, Floats bound) { return _mm256_max_ps(v, bound); }
inline Floats at_most(Floats v, Floats bound) { return _mm256_min_ps(v, bound); }
inline Floats square_root(Floats v) { return _mm256_sqrt_ps(v); }
#elif defined(__x86_64__)
inline Floats at_least(Floats v, Floats bound) { return _mm_max_ps(v, bound); }
inline Floats at_most(Floats v, Floats bound) { return _mm_min_ps(v, bound); }
inline Floats square_root(Floats v) { return _mm_sqrt_ps(v); }
#else
inline Floats at_least(Floats v, Floats bound) { return v > bound ? v : bound; }
inline Floats at_most(Floats v, Floats bound) { return v < bound ? v : bound; }
inline Floats square_root(Floats v) {
  Floats root{};
  for (int lane = 0; lane < kLanes; ++lane) root[lane] = __builtin_sqrtf(v[lane]);
  return root;
}
#endif

// Lane i of the result is lane index[i] of a followed by b.
inline Floats shuffle(Floats a, Floats b, Ints index) {
#ifdef __clang__  // lacks a shuffle whose indices are no constants
  Floats result{};
  for (int lane = 0; lane < kLanes; ++lane) {
    const int from = index[lane];
    result[lane] = from < kLanes ? a[from] : b[from - kLanes];
  }
  return result;
#else
  return __builtin_shuffle(a, b, index);
#endif
}

}  // namespace calque::ggml::inline CALQUE_GGML_ISA
