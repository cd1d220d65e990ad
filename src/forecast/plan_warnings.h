#pragma once

#include <optional>
#include <string>
#include <vector>

#include "calque/forecast/job_plan.h"
#include "calib/importance.h"
#include "pipeline/plan_job.h"

namespace calque::forecast {

// What a run would warn of, as far as headers and settings tell, and what is worth knowing before.
std::vector<std::string> plan_warnings(const job::Job& job, const pipeline::SourceModel& source,
                                       const std::vector<formats::ExportPlan>& plans,
                                       const std::optional<calib::Importance>& importance,
                                       const MemoryPlan& memory, const DiskPlan& disk);

}  // namespace calque::forecast
