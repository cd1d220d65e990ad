#pragma once

#include <string>

#include "calque/job/job.h"
#include "calque/record/observer.h"
#include "calque/record/report.h"
#include "calque/resume/run_folder.h"

namespace calque::resume {
class SharedWork;
}
namespace calque::pipeline {

struct RunOptions {
  resume::Resume resume = resume::Resume::kAuto;
  resume::SharedWork* shared = nullptr;  // what other jobs have computed; null: nothing
  // The job's keys and values by path ("quantization.bits"), compared when a run goes on; none: the
  // caller sees to it that they are the same.
  resume::Fields settings;
  // The job file with every default: kept in run_dir, and what publish_folder needs; "": folders
  // are not published.
  std::string resolved_yaml;
  // For whatever else may end the process: how to go on. Null: only an Error that ends the run says
  // it.
  resume::SavedRun* saved = nullptr;
};

// Runs the job: calibrate, quantize, write every export, evaluate what was written (read back from
// the files). Exports whose tensors lie on the same grids share one pass; each other set of grids
// gets a pass of its own, because with propagated error later statistics depend on earlier codes.
// Saves what is finished in run_dir/state as it goes, as runtime.checkpoint says; what another
// process then goes on with gives the same bytes. An Error that ends the run after something was
// saved says so. Errors of going on: E305 (the job has changed), E306 (in use by another process),
// E307 (damaged state), E308 (a finished part is gone).
record::Report quantize_model(const job::Job& job, record::Observer& observer,
                              const RunOptions& options = {});

}  // namespace calque::pipeline
