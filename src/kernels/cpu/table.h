#pragma once

#include "calque/core/simd.h"
#include "kernels/kernel_table.h"

// The CPU's kernels: compiled for every machine, and those with hot loops once more for AVX-512
// (src/kernels/CMakeLists.txt). Both copies of a kernel give the same bits.
namespace calque::cpu {

inline namespace CALQUE_ISA {
const KernelTable& kernels();
}

#ifdef CALQUE_AVX512_COPY
namespace avx512 {
const KernelTable& kernels();
}
#endif

}  // namespace calque::cpu
