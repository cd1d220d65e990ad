#pragma once

#include "calque/forecast/forecast.h"
#include "calque/forecast/time.h"
#include "calque/pipeline/open_job.h"

namespace calque::pipeline {

// Everything that can be predicted about a job before it runs, with an estimate of its time from
// `rates`. Writes nothing.
forecast::Forecast forecast_job(const OpenedJob& opened, const forecast::MachineRates& rates,
                                bool every_module = false);

// Predicts the time by running the first block of every set of grids on the job's own calibration
// tokens (on some of the rows if all would take long), and a short evaluation. The ratio of
// measured to predicted seconds of each stage corrects the prediction of that stage. Writes
// nothing. Consumes `opened`: its family is truncated to the first block.
forecast::TimePrediction probe_time(OpenedJob opened, const forecast::MachineRates& rates);

struct PlanOptions {
  bool probe = false;               // predict the time with probe_time
  bool every_module = false;        // list each module separately in PlannedModules
  double seconds_to_measure = 0.3;  // time spent on measuring the machine's rates
};

// Opens the job and makes its forecast. Errors as open_job.
forecast::Forecast make_job_plan(const job::Job& job, const PlanOptions& options = {});

}  // namespace calque::pipeline
