#pragma once

#include <array>

#include "calque/pipeline/report.h"
#include "pipeline/stage_work.h"

namespace calque::pipeline {

// The precision of the plain product that a cost is measured against.
enum class Against { kFloat32, kForward, kEvaluation };

// What one unit of work takes, in operations of a plain product that could be done meanwhile on all
// of the job's threads.
struct WorkCost {
  WorkKind kind;
  const char* name;  // "Gram matrices"
  double StageSeconds::*stage;
  Against against;
  double operations;
};

// The one table of efficiencies, and where they are from, is in stage_costs.cpp. By kind, in order.
const std::array<WorkCost, kWorkKinds>& work_costs();

}  // namespace calque::pipeline
