#include "kernels/kernel_table.h"

namespace calque {

const CudaBackend* cuda_backend() { return nullptr; }

std::string why_no_cuda_backend() { return "this build of calque has no CUDA support"; }

}  // namespace calque
