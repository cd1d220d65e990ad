#pragma once

#include "calque/core/instruction_set.h"
#include "calque/core/simd.h"

// Functions that are compiled twice, for every machine and for AVX-512 (calque_avx512_copy in
// src/CMakeLists.txt). The second copy has CALQUE_ISA defined as `avx512`; a room that has one is
// compiled with CALQUE_AVX512_COPY.
//   CALQUE_COPIES(const Loops& compiled_loops();)   declares both, in a header
//   CALQUE_CHOSEN_COPY(compiled_loops)              is the one for instruction_set()
#ifdef CALQUE_AVX512_COPY
#define CALQUE_COPIES(...)      \
  inline namespace CALQUE_ISA { \
  __VA_ARGS__                   \
  }                             \
  namespace avx512 {            \
  __VA_ARGS__                   \
  }
#define CALQUE_CHOSEN_COPY(function) (::calque::uses_avx512() ? avx512::function : function)
#else
#define CALQUE_COPIES(...)      \
  inline namespace CALQUE_ISA { \
  __VA_ARGS__                   \
  }
#define CALQUE_CHOSEN_COPY(function) (function)
#endif
