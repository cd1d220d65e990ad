#pragma once

#include <vector>

#include "calque/pipeline/job_plan.h"

namespace calque::pipeline {

// The tensors of `plan`, those alike together unless `every_module`; in the order of the first of
// each.
std::vector<PlannedModules> planned_modules(const Job& job, const artifact::ExportPlan& plan,
                                            bool every_module);

}  // namespace calque::pipeline
