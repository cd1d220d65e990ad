#pragma once

#include <memory>

#include "calque/forward/block_runner.h"

namespace calque::forward {

// The runner of device "cpu": calque's own loops, and oneDNN's products.
std::unique_ptr<BlockRunner> make_cpu_runner(const model::ModelConfig& config,
                                             const RunnerOptions& options);

}  // namespace calque::forward
