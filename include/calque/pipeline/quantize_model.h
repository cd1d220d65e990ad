#pragma once

#include <vector>

#include "calque/artifact/plan.h"
#include "calque/pipeline/job.h"
#include "calque/pipeline/observer.h"
#include "calque/pipeline/report.h"

namespace calque::pipeline {

// Everything that can be refused is refused here, from headers, before any arithmetic: model
// against its family, tokenizer, sources, method x format x shapes. What a job would write, export
// by export.
std::vector<artifact::ExportPlan> plan_job(const Job& job);

class SharedWork;

enum class Resume {
  kAuto,   // go on where an unfinished run in job.run_dir stopped
  kNever,  // start anew
};

struct RunOptions {
  Resume resume = Resume::kAuto;
  SharedWork* shared = nullptr;  // what other jobs have computed; null: nothing
};

// Runs the job: calibrate, quantize, write every export, evaluate what was written (read back from
// the files). Exports whose tensors lie on the same grids share one pass; each other set of grids
// gets a pass of its own, because with propagated error later statistics depend on earlier codes.
Report quantize_model(const Job& job, Observer& observer, const RunOptions& options = {});

}  // namespace calque::pipeline
