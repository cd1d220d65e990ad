#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "calque/core/exec.h"
#include "calque/core/matrix.h"
#include "calque/core/parallel.h"
#include "calque/kernels/gptq_sweep.h"
#include "calque/kernels/gram.h"
#include "calque/kernels/operations.h"
#include "calque/kernels/refine_blocks.h"
#include "calque/kernels/refine_grid.h"
#include "calque/kernels/round_to_grid.h"
#include "calque/kernels/round_vectors.h"
#include "calque/kernels/scale_search.h"

namespace calque {

// The place of a GramSum's matrix, and the way to add rows to it.
class GramSum::Sums {
 public:
  virtual ~Sums() = default;
  virtual void add(MatrixView<const float> inputs_TK) = 0;
  virtual void add(MatrixView<const BFloat16> inputs_TK) = 0;
  virtual void add(const DeviceRows& inputs_TK) = 0;
  // Further rows are added to these sums instead of zeros.
  virtual void start_from(MatrixView<const float> gram_KK, std::span<const double> magnitude_K) = 0;
  virtual Result finish() = 0;
};

// Every column of `codes` is a vector, and of `words`; or every row.
enum class PackedVectors { kColumns, kRows };
struct PackBits {
  PackedVectors vectors;
  MatrixView<const std::uint8_t> codes;
  int bits;
  MatrixView<std::int32_t> words;  // out
};

// A device provides these operations of include/calque/kernels, arguments already checked. A
// null entry: not implemented there (see provides() in calque/kernels/operations.h).
struct KernelTable {
#define CALQUE_ENTRY(enumerator, name, Result, ...) \
  Result (*name)(__VA_ARGS__, const Exec::Backend&) = nullptr;
  CALQUE_OPERATIONS(CALQUE_ENTRY, CALQUE_ENTRY)
#undef CALQUE_ENTRY
};

// The kernels of both devices have the same declarations, each in its namespace.
#define CALQUE_DECLARE(enumerator, name, Result, ...) \
  Result name(__VA_ARGS__, const Exec::Backend& backend);
#define CALQUE_LEAVE_OUT(...)
namespace cpu {
CALQUE_OPERATIONS(CALQUE_DECLARE, CALQUE_DECLARE)
}
namespace cuda {
CALQUE_OPERATIONS(CALQUE_DECLARE, CALQUE_LEAVE_OUT)
}
#undef CALQUE_DECLARE

// An Exec stands for this. The host's workers serve every device: a GPU's operations stage their
// operands with them.
struct Exec::Backend {
  std::string name;
  const KernelTable& kernels;
  Workers workers;
  std::shared_ptr<void> device;  // cuda::Device; null on the CPU
};

// The CUDA side: a plug-in of its own (libcalque_cuda.so), so that the program starts without
// cuBLAS and runs on machines that have no driver.
struct CudaBackend {
  const KernelTable* kernels = nullptr;
  int (*device_count)() = nullptr;
  std::vector<DeviceFacts> (*devices)() = nullptr;
  std::shared_ptr<void> (*open)(int index) = nullptr;  // Exec::Backend::device holds it
  std::string (*why_no_device)() = nullptr;            // empty if there is one
};

// Null in a build without CUDA (cuda/none.cpp), or where the plug-in does not load
// (cuda/loader.cpp).
const CudaBackend* cuda_backend();
std::string why_no_cuda_backend();

}  // namespace calque
