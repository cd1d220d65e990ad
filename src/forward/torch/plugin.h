#pragma once

#include "calque/forward/block_runner.h"

// The four functions that libcalque_torch.so exports, under these names.
namespace calque::forward {

// The caller owns the result. Throws calque::Error.
using MakeTorchRunner = BlockRunner* (*)(const model::ModelConfig& config,
                                         const RunnerOptions& options);
inline constexpr const char* kMakeTorchRunner = "calque_make_torch_runner";

// "LibTorch 1.13.1"; lives as long as the plug-in.
using DescribeTorch = const char* (*)();
inline constexpr const char* kDescribeTorch = "calque_describe_torch";

// GPUs that this LibTorch can use.
using CountTorchGpus = int (*)();
inline constexpr const char* kCountTorchGpus = "calque_count_torch_gpus";

// A hash of the headers that the plug-in was built from (src/forward/CMakeLists.txt).
using TorchInterface = const char* (*)();
inline constexpr const char* kTorchInterface = "calque_torch_interface";

}  // namespace calque::forward
