#pragma once

#include <string>
#include <vector>

#include "calque/forecast/work.h"
#include "calque/formats/plan.h"
#include "calque/job/job.h"
#include "calque/model/family.h"
#include "calque/record/report.h"

namespace calque::forecast {

// What this machine does with plain products on all of a job's threads, now: others may be using
// it. In floating-point operations a second.
struct MachineRates {
  double float32 = 0;
  double bfloat16 = 0;  // of sums of products of bfloat16 rows; float32's where no stage needs it
};

// Takes about `seconds`.
MachineRates measure_rates(const job::Job& job, double seconds = 0.3);

// What so much work takes, by the table of costs in src/forecast/time.cpp. On the CPU.
record::StageSeconds seconds_of(const Work& work, const job::Job& job, const MachineRates& rates);

// `predicted` with every stage multiplied by measured / expected, what a part of the job took
// against what it was predicted to take. A stage that the part has not, or that is too short to
// tell anything (a hundredth of a second), stays as it is.
record::StageSeconds corrected(const record::StageSeconds& predicted,
                               const record::StageSeconds& expected,
                               const record::StageSeconds& measured);

// What a whole job takes: wall seconds by stage, and their sum with what belongs to none.
struct TimePrediction {
  double seconds = 0;
  std::string from;  // "estimate", "probe", "first block"
  record::StageSeconds stages;
};

// With the seconds that belong to no stage: loading libraries, opening files.
TimePrediction prediction_of(const record::StageSeconds& stages, std::string from);

// From headers alone. Grows with layers, tokens and windows.
TimePrediction predict_time(const job::Job& job, const model::FamilySpec& family,
                            const std::vector<formats::ExportPlan>& plans,
                            const MachineRates& rates);

}  // namespace calque::forecast
