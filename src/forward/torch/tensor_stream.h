#pragma once

#include <c10/core/Device.h>

// Only a LibTorch with CUDA knows these: tensor_stream_cuda.cpp, or tensor_stream_cpu.cpp where the
// build found none.
namespace calque::forward {

// GPUs that this LibTorch can use.
int torch_gpus();

// Makes matrix products sum in fp32 for the whole process: no TF32, no bf16 partial sums.
void sum_in_float32();

// The cudaStream_t that ATen's operators are queued on; null for the CPU.
void* current_stream(const c10::Device& device);

}  // namespace calque::forward
