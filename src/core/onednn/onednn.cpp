#include "calque/core/onednn.h"

#include <oneapi/dnnl/dnnl.h>

#include "calque/core/error.h"
#include "calque/core/instruction_set.h"

namespace calque {
namespace {

// AVX-512 takes in what only oneDNN makes use of (VNNI, bfloat16).
dnnl_cpu_isa_t widest_for(InstructionSet set) {
  if (set == InstructionSet::kAvx2) return dnnl_cpu_isa_avx2;
  if (set == InstructionSet::kAvx512) return dnnl_cpu_isa_avx512_core_bf16;
  return dnnl_cpu_isa_all;
}

// A oneDNN that was built without this choice is no fault where nothing is to be limited.
bool limit() {
  const InstructionSet set = instruction_set();
  if (set == runnable_instruction_sets().back()) return true;
  if (dnnl_set_max_cpu_isa(widest_for(set)) != dnnl_success)
    throw Error(ErrorKind::kInternal, "", "oneDNN could not be limited to an instruction set");
  return true;
}

}  // namespace

void limit_onednn() {
  static const bool limited = limit();
  static_cast<void>(limited);
}

}  // namespace calque
