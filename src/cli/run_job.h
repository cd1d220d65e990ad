#pragma once

#include <filesystem>
#include <string>

#include "calque/job/job.h"
#include "calque/resume/run_folder.h"
#include "calque/resume/saved_run.h"

namespace calque::cli {

struct RunOptions {
  std::filesystem::path job_file;  // for the last lines: how to repeat the run
  std::string progress = "auto";   // as for progress_option
  bool json = false;               // print the report as JSON
  resume::Resume resume = resume::Resume::kAuto;
  resume::SavedRun* saved = nullptr;
};

// Runs the job with its progress on stderr, and prints the report and what to do next.
void run_job(const job::Job& job, const RunOptions& options);

}  // namespace calque::cli
