#pragma once

#include <vector>

#include "calque/artifact/plan.h"
#include "calque/io/safetensors.h"
#include "calque/model/family.h"
#include "calque/pipeline/job.h"

namespace calque::pipeline {

// The model as opened and checked: what planning and every pass read.
struct SourceModel {
  explicit SourceModel(const std::filesystem::path& folder);

  io::SafetensorsCheckpoint checkpoint;
  model::FamilySpec family;
};

std::vector<artifact::ExportPlan> plan_exports(const Job& job, const SourceModel& source);

// Exports that one pass over the model can serve: each set has the same grid for every tensor.
// Indices into `plans`, in order.
std::vector<std::vector<std::size_t>> group_by_grids(
    const std::vector<artifact::ExportPlan>& plans);

}  // namespace calque::pipeline
