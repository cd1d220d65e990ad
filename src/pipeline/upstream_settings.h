#pragma once

#include "calque/artifact/plan.h"
#include "calque/pipeline/job.h"

namespace calque::pipeline {

// Error(kConfig, "E116") if the job asks for a correction that its other settings rule out.
void check_upstream_settings(const Job& job);

// How much a pass over `plan` corrects (Pass::upstream_correction).
double upstream_correction_for(const Job& job, const artifact::ExportPlan& plan);

}  // namespace calque::pipeline
