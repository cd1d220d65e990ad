#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "calque/formats/plan.h"
#include "calque/job/job.h"
#include "calque/model/family.h"

namespace calque::forecast {

// The peak resident memory of one stage of a job, in bytes.
struct StageMemory {
  struct Item {
    std::string what;  // "Hessian of model.layers.0.mlp.down_proj, 14336 x 14336, and its factor"
    std::uint64_t bytes = 0;
  };
  std::string stage;        // "allocate", "forward", "statistics", "quantize", "write", "evaluate"
  std::vector<Item> items;  // largest first; activations are not among them
  std::uint64_t bytes = 0;  // their sum
  // Bytes of each activation array that is alive as well, in the order of allocation.
  std::vector<std::uint64_t> activations;
};

// A job's memory use, settled before it starts.
struct MemoryPlan {
  struct Stage : StageMemory {
    std::uint64_t activation_ram_bytes = 0;
    std::uint64_t activation_file_bytes = 0;
    std::uint64_t peak_bytes() const { return bytes + activation_ram_bytes; }
  };
  std::vector<Stage> stages;  // stages that this job has
  // Memory for all activations together; arrays beyond it go to files. 0 together with
  // activation_file_bytes 0 means no limit.
  std::uint64_t activation_budget_bytes = 0;
  std::uint64_t activation_bytes = 0;       // all activations at the moment of the highest use
  std::uint64_t activation_ram_bytes = 0;   // the part that stays in memory, at most
  std::uint64_t activation_file_bytes = 0;  // the part that goes to offload_dir: disk space needed
  std::uint64_t peak_bytes = 0;             // predicted resident peak

  const Stage& worst() const;  // the stage with the highest peak
};

// The measurement that a target size needs before the passes (job/allocation.h).
struct AllocationShape {
  Index samples = 0;  // rows of calibration text
  Index windows = 0;  // rows that every trial runs on; 0: no trials
  Index parts = 0;
  // Weights of the embedding and the head, if they are among the parts.
  std::uint64_t outside_weights = 0;
};

// Hidden states of trials beyond this go to files where a job has no limit of its own.
inline constexpr std::uint64_t kTrialBytes = std::uint64_t{2} << 30;

// Models what the passes really hold: one block's weights, one site's Gram matrix and factor, and
// one matrix that is being rounded. Does not depend on the number of layers. Counts host memory
// only. Error(kResource, "E301") if `runtime.max_ram` is too small even with all activations in
// files; the message lists the worst stage's items and the smallest max_ram that works. Also if
// activations do not fit and there is neither an offload_dir nor a run_dir.
MemoryPlan plan_memory(const job::Job& job, const model::FamilySpec& family,
                       const std::vector<formats::ExportPlan>& plans,
                       const std::optional<AllocationShape>& allocation = std::nullopt);

}  // namespace calque::forecast
