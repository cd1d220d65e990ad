#include <ATen/Context.h>
#include <c10/cuda/CUDAFunctions.h>
#include <c10/cuda/CUDAStream.h>

#include "forward/torch/tensor_stream.h"

namespace calque::forward {

int torch_gpus() { return static_cast<int>(c10::cuda::device_count()); }

void sum_in_float32() {
  at::globalContext().setAllowTF32CuBLAS(false);
  at::globalContext().setAllowBF16ReductionCuBLAS(false);
}

void* current_stream(const c10::Device& device) {
  return device.is_cuda() ? c10::cuda::getCurrentCUDAStream(device.index()).stream() : nullptr;
}

}  // namespace calque::forward
