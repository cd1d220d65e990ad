#pragma once

#include "calque/formats/plan.h"
#include "calque/job/job.h"

namespace calque::job {

// Error(kConfig, "E116") if the job asks for a correction that its other settings rule out.
void check_upstream_settings(const Job& job);

// How much a pass over `plan` corrects (Pass::upstream_correction).
double upstream_correction_for(const Job& job, const formats::ExportPlan& plan);

}  // namespace calque::job
