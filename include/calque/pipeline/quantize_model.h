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
  resume::SharedWork* shared = nullptr;  // results shared with other jobs; null: none
  // The job's keys and values by path ("quantization.bits"), compared when a run is resumed. Empty:
  // the caller makes sure that they are the same.
  resume::Fields settings;
  // The job file with every default filled in. It is kept in run_dir, and publish_folder needs it;
  // "": folders are not published.
  std::string resolved_yaml;
  // Receives how to resume, for code that may end the process in another way. Null: only an Error
  // that ends the run says so.
  resume::SavedRun* saved = nullptr;
};

// Runs the job: calibrate, quantize, write every export, evaluate the written files. Exports whose
// tensors lie on the same grids share one pass; each other set of grids gets its own, because with
// propagated error later statistics depend on earlier codes. Saves finished work in run_dir/state
// as runtime.checkpoint says; a resumed run gives the same bytes. An Error that ends the run after
// something was saved says how to resume. Errors when resuming: E305 (the job has changed), E306
// (in use by another process), E307 (damaged state), E308 (a finished part is missing).
record::Report quantize_model(const job::Job& job, record::Observer& observer,
                              const RunOptions& options = {});

}  // namespace calque::pipeline
