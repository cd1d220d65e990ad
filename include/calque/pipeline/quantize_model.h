#pragma once

#include <filesystem>
#include <string>
#include <utility>
#include <vector>

#include "calque/formats/plan.h"
#include "calque/job/job.h"
#include "calque/pipeline/observer.h"
#include "calque/record/report.h"

namespace calque::resume {
class SharedWork;
}
namespace calque::pipeline {

// Everything that can be refused is refused here, from headers, before any arithmetic: model
// against its family, tokenizer, sources, method x format x shapes. What a job would write, export
// by export.
std::vector<formats::ExportPlan> plan_job(const job::Job& job);


enum class Resume {
  kAuto,   // go on where an unfinished run in job.run_dir stopped
  kNever,  // start anew
};

struct RunOptions {
  Resume resume = Resume::kAuto;
  resume::SharedWork* shared = nullptr;  // what other jobs have computed; null: nothing
  // The job's keys and values by path ("quantization.bits"), compared when a run goes on; none: the
  // caller sees to it that they are the same.
  std::vector<std::pair<std::string, std::string>> settings;
  // The job file with every default: kept in run_dir, and what publish_folder needs; "": folders
  // are not published.
  std::string resolved_yaml;
};

// Whether `run_dir` holds a run that was interrupted.
bool can_resume(const std::filesystem::path& run_dir);

// Runs the job: calibrate, quantize, write every export, evaluate what was written (read back from
// the files). Exports whose tensors lie on the same grids share one pass; each other set of grids
// gets a pass of its own, because with propagated error later statistics depend on earlier codes.
// Saves what is finished in run_dir/state as it goes, as runtime.checkpoint says; what another
// process then goes on with gives the same bytes. An Error that ends the run after something was
// saved says so. Errors of going on: E305 (the job has changed), E306 (in use by another process),
// E307 (damaged state), E308 (a finished part is gone).
record::Report quantize_model(const job::Job& job, Observer& observer, const RunOptions& options = {});

}  // namespace calque::pipeline
