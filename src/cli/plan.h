#pragma once

#include <string>

#include "calque/forecast/forecast.h"
#include "calque/pipeline/forecast_job.h"

namespace calque::cli {

// The output of `calque plan`: modules in groups, files, memory, disk, time and warnings. Fits 100
// columns.
std::string job_plan_text(const forecast::Forecast& plan);

// Prints the plan of a job on standard output. Writes no file.
void print_job_plan(const job::Job& job, const pipeline::PlanOptions& options, bool json);

}  // namespace calque::cli
