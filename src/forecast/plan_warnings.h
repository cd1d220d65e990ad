#pragma once

#include <string>
#include <vector>

#include "calque/forecast/job_plan.h"

namespace calque::forecast {

// What a run would warn of, as far as headers and settings tell, and what is worth knowing before.
std::vector<std::string> plan_warnings(const DecidedJob& decided, const DiskPlan& disk);

}  // namespace calque::forecast
