#pragma once

#include <optional>
#include <vector>

#include "calque/formats/plan.h"
#include "calque/model/family.h"
#include "calque/job/job.h"
#include "calque/forecast/memory_plan.h"

namespace calque::forecast {

// What the sums of memory_stages.cpp are made of.
struct JobShapes {
  JobShapes(const job::Job& job, const model::FamilySpec& family,
            const std::vector<formats::ExportPlan>& plans);

  const job::Job& job;
  const model::FamilySpec& family;
  const std::vector<formats::ExportPlan>& plans;
  bool runs = false;      // calibration text goes through the model
  bool upstream = false;  // the original runs beside
  std::uint64_t threads = 1;
  std::uint64_t compute_bytes = 4;  // of an element in the forward pass
  std::uint64_t source_bytes = 2;   // of an element in the checkpoint
};

// Of activations in files, what is in memory at a time while it is worked on.
std::uint64_t rows_being_read(const JobShapes& shapes);

// What each stage holds at its worst: beside what is said where, the program itself. nullopt: the
// job has no such stage.
std::optional<StageMemory> forward_memory(const JobShapes& shapes);
std::optional<StageMemory> statistics_memory(const JobShapes& shapes);
std::optional<StageMemory> quantize_memory(const JobShapes& shapes);
std::optional<StageMemory> write_memory(const JobShapes& shapes);
std::optional<StageMemory> evaluate_memory(const JobShapes& shapes);

}  // namespace calque::forecast
