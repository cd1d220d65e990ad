#pragma once

#include "calque/core/copies.h"
#include "kernels/kernel_table.h"

// The CPU's kernels: compiled for every machine, and those with hot loops once more for AVX-512
// (src/kernels/CMakeLists.txt). Both copies of a kernel give the same bits.
namespace calque::cpu {

CALQUE_COPIES(const KernelTable& kernels();)

// The copy for instruction_set() (exec.cpp).
const KernelTable& chosen_kernels();

}  // namespace calque::cpu
