#include "kernels/cpu/table.h"

namespace calque::cpu::inline CALQUE_ISA {

const KernelTable& kernels() {
  static constexpr KernelTable kKernels = {
#define CALQUE_ENTRY(enumerator, name, ...) .name = cpu::name,
      CALQUE_OPERATIONS(CALQUE_ENTRY, CALQUE_ENTRY)
#undef CALQUE_ENTRY
  };
  return kKernels;
}

}  // namespace calque::cpu::inline CALQUE_ISA
