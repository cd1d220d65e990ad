#pragma once

#include <memory>

#include "calque/forward/block_runner.h"

namespace calque::forward {

// A runner whose arithmetic is ATen's operators on the device that `options` name: "cuda:N", or
// "tensors" for the CPU. Hidden states and the inputs of later stages stay on the device. In fp32
// and bf16 its results are those of the CPU's runner but for the order of sums.
// Error(kConfig, "E129") if this LibTorch cannot use the device.
std::unique_ptr<BlockRunner> make_tensor_runner(const model::ModelConfig& config,
                                                const RunnerOptions& options);

}  // namespace calque::forward
