#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "calque/core/exec.h"

namespace calque {

// What a device may or may not implement: lets a plan refuse a stage before anything runs.
enum class Operation {
  kGram,
  kGramEnergy,
  kInverseCholesky,
  kRoundToGrid,
  kGptqSweep,
  kScaleSearch,
  kBlockScaleSearch,
  kRefineGrid,
  kRefineBlocks,
  kPackBits,
};

// "gram", "gptq_sweep", ...: the name of its header.
std::string_view name_of(Operation operation);

// Every operation, in the order of the enumerators.
std::span<const Operation> all_operations();

bool provides(const Exec& exec, Operation operation);

}  // namespace calque
