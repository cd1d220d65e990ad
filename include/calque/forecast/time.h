#pragma once

#include <string>
#include <vector>

#include "calque/forecast/work.h"
#include "calque/formats/plan.h"
#include "calque/job/job.h"
#include "calque/model/family.h"
#include "calque/record/report.h"

namespace calque::forecast {

// Measured speed of plain matrix products on all of a job's threads, in floating-point operations
// per second. Other load on the machine lowers it.
struct MachineRates {
  double float32 = 0;
  double bfloat16 = 0;  // bfloat16 inputs; equals float32 if no stage uses bfloat16
};

// Takes about `seconds`.
MachineRates measure_rates(const job::Job& job, double seconds = 0.3);

// Predicted seconds of `work` by stage, from the cost table in src/forecast/time.cpp. CPU only.
record::StageSeconds seconds_of(const Work& work, const job::Job& job, const MachineRates& rates);

// `predicted` with every stage multiplied by measured / expected: the time that part of the job
// took over the time predicted for that part. A stage that the part does not have, or that took too
// little time to tell (a hundredth of a second), stays as it is.
record::StageSeconds corrected(const record::StageSeconds& predicted,
                               const record::StageSeconds& expected,
                               const record::StageSeconds& measured);

// Predicted wall seconds of a whole job, by stage and in total.
struct TimePrediction {
  double seconds = 0;
  std::string from;  // "estimate", "probe", "first block"
  record::StageSeconds stages;
};

// Adds the seconds outside any stage: loading libraries, opening files.
TimePrediction prediction_of(const record::StageSeconds& stages, std::string from);

// From headers alone. Grows with layers, tokens and windows.
TimePrediction predict_time(const job::Job& job, const model::FamilySpec& family,
                            const std::vector<formats::ExportPlan>& plans,
                            const MachineRates& rates);

}  // namespace calque::forecast
