#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "calque/artifact/plan.h"
#include "calque/model/family.h"
#include "calque/pipeline/job.h"

namespace calque::pipeline {

// What one stage of a job holds at its worst, in bytes of resident memory.
struct StageMemory {
  struct Item {
    std::string what;  // "Hessian of model.layers.0.mlp.down_proj, 14336 x 14336, and its factor"
    std::uint64_t bytes = 0;
  };
  std::string stage;  // "forward", "statistics", "quantize", "write", "evaluate"
  std::vector<Item> items;  // largest first; activations are not among them
  std::uint64_t bytes = 0;  // their sum
};

// How a job's memory is shared out before it starts.
struct MemoryPlan {
  std::vector<StageMemory> stages;      // without activations
  std::uint64_t activation_bytes = 0;   // all that the widest moment keeps between blocks and stages
  std::uint64_t activation_ram_bytes = 0;   // of these, what stays in memory under max_ram
  std::uint64_t activation_file_bytes = 0;  // and what goes to offload_dir
  std::uint64_t peak_bytes = 0;         // predicted resident peak: worst stage + activation_ram_bytes

  const StageMemory& worst() const;
};

// Follows what the passes really hold (src/README.md, "Memory"): one block's weights, one site's
// Gram matrix and factor, one matrix being rounded. Does not depend on the number of layers.
// Error(kResource, "E301") if `runtime.max_ram` is too small even with all activations in files: the
// worst stage's items, and the smallest max_ram that works; also if activations do not fit and
// there is no offload_dir.
MemoryPlan plan_memory(const Job& job, const model::FamilySpec& family,
                       const std::vector<artifact::ExportPlan>& plans);

}  // namespace calque::pipeline
