#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "calque/formats/plan.h"
#include "calque/job/job.h"
#include "calque/model/family.h"

namespace calque::forecast {

// What one stage of a job holds at its worst, in bytes of resident memory.
struct StageMemory {
  struct Item {
    std::string what;  // "Hessian of model.layers.0.mlp.down_proj, 14336 x 14336, and its factor"
    std::uint64_t bytes = 0;
  };
  std::string stage;        // "forward", "statistics", "quantize", "write", "evaluate"
  std::vector<Item> items;  // largest first; activations are not among them
  std::uint64_t bytes = 0;  // their sum
  // Arrays of activations that are there, too, in the order in which they come.
  std::vector<std::uint64_t> activations;
};

// How a job's memory is shared out before it starts.
struct MemoryPlan {
  struct Stage : StageMemory {
    std::uint64_t activation_ram_bytes = 0;
    std::uint64_t activation_file_bytes = 0;
    std::uint64_t peak_bytes() const { return bytes + activation_ram_bytes; }
  };
  std::vector<Stage> stages;  // those that the job has
  // Activations may take so much memory together, the others go to files; 0 with
  // activation_file_bytes 0: no limit.
  std::uint64_t activation_budget_bytes = 0;
  std::uint64_t activation_bytes = 0;       // all that the widest moment keeps
  std::uint64_t activation_ram_bytes = 0;   // of these, what stays in memory at the most
  std::uint64_t activation_file_bytes = 0;  // and what goes to offload_dir: disk that is needed
  std::uint64_t peak_bytes = 0;             // predicted resident peak

  const Stage& worst() const;  // of the peaks
};

// Follows what the passes really hold: one block's weights, one site's Gram matrix and factor, one
// matrix being rounded. Does not depend on the number of layers. On the CPU; what a GPU holds is
// not counted. Error(kResource, "E301") if `runtime.max_ram` is too small even with all activations
// in files: the worst stage's items, and the smallest max_ram that works; also if activations do
// not fit and there is neither offload_dir nor run_dir.
MemoryPlan plan_memory(const job::Job& job, const model::FamilySpec& family,
                       const std::vector<formats::ExportPlan>& plans);

}  // namespace calque::forecast
