#pragma once

#include <string>
#include <vector>

#include "calque/formats/plan.h"
#include "calque/model/family.h"
#include "calque/job/job.h"
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

// What a whole job takes: wall seconds by stage, and their sum with what belongs to none.
struct TimePrediction {
  double seconds = 0;
  std::string from;  // "estimate", "probe", "first block"
  record::StageSeconds stages;
};

// Work counted from shapes, times what each kind of it costs (src/pipeline/stage_costs.cpp). From
// headers alone; of stages on a GPU it does not know. Grows with layers, tokens and windows.
TimePrediction predict_time(const job::Job& job, const model::FamilySpec& family,
                            const std::vector<formats::ExportPlan>& plans,
                            const MachineRates& rates);

}  // namespace calque::forecast
