#pragma once

#include <optional>
#include <string>
#include <vector>

#include "calque/pipeline/job_plan.h"
#include "pipeline/importance.h"
#include "pipeline/plan_job.h"

namespace calque::pipeline {

// What a run would warn of, as far as headers and settings tell, and what is worth knowing before.
std::vector<std::string> plan_warnings(const Job& job, const SourceModel& source,
                                       const std::vector<artifact::ExportPlan>& plans,
                                       const std::optional<Importance>& importance,
                                       const MemoryPlan& memory, const DiskPlan& disk);

}  // namespace calque::pipeline
