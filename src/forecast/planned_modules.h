#pragma once

#include <vector>

#include "calque/forecast/forecast.h"

namespace calque::forecast {

// The tensors of `plan`, those alike together unless `every_module`; in the order of the first of
// each.
std::vector<PlannedModules> planned_modules(const job::Job& job, const formats::ExportPlan& plan,
                                            bool every_module);

}  // namespace calque::forecast
