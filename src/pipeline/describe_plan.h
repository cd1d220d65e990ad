#pragma once

#include <optional>

#include "calque/pipeline/job_plan.h"
#include "pipeline/importance.h"
#include "pipeline/plan_job.h"

namespace calque::pipeline {

// What was decided about a job, put together; its time is an estimate at these rates.
JobPlan describe_plan(const Job& job, const SourceModel& source,
                      const std::vector<artifact::ExportPlan>& plans,
                      const std::optional<Importance>& importance, const MemoryPlan& memory,
                      const MachineRates& rates, bool every_module = false);

// For the report: what was predicted of sizes, memory, disk and time.
Predicted predicted_of(const JobPlan& plan);
Predicted with_time(Predicted predicted, const TimePrediction& time);

}  // namespace calque::pipeline
