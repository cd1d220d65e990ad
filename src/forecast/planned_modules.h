#pragma once

#include <vector>

#include "calque/forecast/forecast.h"

namespace calque::forecast {

// The tensors of `plan`, grouped if they are alike unless `every_module`, in order of each group's
// first tensor.
std::vector<PlannedModules> planned_modules(const job::Job& job, const formats::ExportPlan& plan,
                                            bool every_module);

}  // namespace calque::forecast
