#pragma once

#include <string>

#include "calque/forecast/forecast.h"
#include "calque/pipeline/forecast_job.h"

namespace calque::cli {

// `calque plan`: what would be written, module group by module group and file by file; memory, disk
// and time; warnings. Fits 100 columns.
std::string job_plan_text(const forecast::Forecast& plan);

// The plan of a job on standard output. Writes no file.
void print_job_plan(const job::Job& job, const pipeline::PlanOptions& options, bool json);

}  // namespace calque::cli
