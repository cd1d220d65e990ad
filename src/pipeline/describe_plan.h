#pragma once

#include <optional>

#include "calque/forecast/job_plan.h"
#include "calib/importance.h"
#include "pipeline/plan_job.h"

namespace calque::pipeline {

// What was decided about a job, put together; its time is an estimate at these rates.
forecast::JobPlan describe_plan(const job::Job& job, const SourceModel& source,
                      const std::vector<formats::ExportPlan>& plans,
                      const std::optional<calib::Importance>& importance, const forecast::MemoryPlan& memory,
                      const forecast::MachineRates& rates, bool every_module = false);

// For the report: what was predicted of sizes, memory, disk and time.
record::Predicted predicted_of(const forecast::JobPlan& plan);
record::Predicted with_time(record::Predicted predicted, const forecast::TimePrediction& time);

}  // namespace calque::pipeline
