#pragma once

#include "calque/job/job.h"
#include "calque/pipeline/open_job.h"
#include "calque/record/allocation.h"
#include "calque/record/observer.h"
#include "calque/record/stages.h"
#include "pipeline/memory_meter.h"

namespace calque::pipeline {

// A job whose target size has become rules.
struct AllocatedJob {
  job::Job job;  // without a target
  record::Allocation allocation;
  record::StageSeconds stages;  // that it took
  forecast::AllocationShape shape;
};

// Measures what every option costs every part (sensitivity.h) and chooses. The costs are kept in
// run_dir/allocation.json: a run of the same measurement, resumed or with another target, takes
// them from there. `job` has a target size.
AllocatedJob allocate(const job::Job& job, record::Observer& observer, MemoryMeter& memory,
                      const OpenOptions& options);

}  // namespace calque::pipeline
