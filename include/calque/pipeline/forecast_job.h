#pragma once

#include "calque/forecast/forecast.h"
#include "calque/forecast/time.h"
#include "calque/pipeline/open_job.h"

namespace calque::pipeline {

// All that can be known of a job before it runs; its time is an estimate at these rates. Writes
// nothing.
forecast::Forecast forecast_job(const OpenedJob& opened, const forecast::MachineRates& rates,
                               bool every_module = false);

// The time after the first block of every set of grids has been run with the job's own calibration
// tokens (some of the rows if that would take long), and a short evaluation of it: what each stage
// took against what was predicted of it corrects the prediction of that stage. Writes nothing.
// `opened` is used up: its family ends after the first block.
forecast::TimePrediction probe_time(OpenedJob opened, const forecast::MachineRates& rates);

struct PlanOptions {
  bool probe = false;               // time from one block that is really run (probe_time)
  bool every_module = false;        // PlannedModules of one module each
  double seconds_to_measure = 0.3;  // the machine's rates
};

// Both of a job that is opened for it. Errors as open_job.
forecast::Forecast make_job_plan(const job::Job& job, const PlanOptions& options = {});

}  // namespace calque::pipeline
