#pragma once

#include <memory>
#include <string>

#include "calque/core/exec.h"
#include "calque/core/parallel.h"
#include "kernels/kernel_table.h"

namespace calque {

// What an Exec stands for. The host's workers serve every device: a GPU's operations stage their
// operands with them.
struct Exec::Backend {
  std::string name;
  const KernelTable& kernels;
  Workers workers;
  std::shared_ptr<void> device;  // cuda::Device; null on the CPU
};

}  // namespace calque
