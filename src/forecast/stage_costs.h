#pragma once

#include <array>

#include "calque/forecast/predict_time.h"
#include "forecast/stage_work.h"

namespace calque::forecast {

// The precision of the plain product that a cost is measured against.
enum class Against { kFloat32, kForward, kEvaluation };

// What one unit of work takes, in operations of a plain product that could be done meanwhile on all
// of the job's threads.
struct WorkCost {
  WorkKind kind;
  const char* name;  // "Gram matrices"
  double record::StageSeconds::*stage;
  Against against;
  double operations;
};

// `work` by the table of costs.
record::StageSeconds seconds_of(const Work& work, const job::Job& job, const MachineRates& rates);

// The one table of efficiencies, and where they are from, is in stage_costs.cpp. By kind, in order.
const std::array<WorkCost, kWorkKinds>& work_costs();

}  // namespace calque::forecast
