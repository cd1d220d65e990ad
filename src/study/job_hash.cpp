#include <span>
#include <string>

#include "calque/config/job_file.h"
#include "calque/io/sha256.h"
#include "calque/io/file.h"
#include "calque/study/sweep_plan.h"

namespace calque::study {
namespace {

constexpr std::size_t kDigits = 16;

// Everything that decides what a job computes, and nothing of where it puts it.
job::Job without_outputs(job::Job job) {
  job.name = "point";
  job.run_dir = "run";
  job.runtime.offload_dir.clear();
  if (!job.calibration.save_imatrix.empty()) job.calibration.save_imatrix = "imatrix";
  for (formats::ExportRequest& request : job.exports) {
    request.path = "artifact";
    request.overwrite = true;
  }
  return job;
}

std::string inputs_of(const job::Job& job) {
  std::string identity = io::stamp_of(job.model.path);
  for (const text::TextSource& source : job.calibration.sources)
    identity += io::stamp_of(source.path);
  for (const auto& path : {job.calibration.tokens, job.quantization.imatrix})
    if (!path.empty()) identity += io::stamp_of(path);
  if (job.evaluate)
    for (const job::EvaluationText& text : job.evaluate->named_texts())
      identity += io::stamp_of(text.file());
  return identity;
}

}  // namespace

std::string hash_of(const job::Job& job) {
  const std::string text = config::resolved_yaml(without_outputs(job)) + inputs_of(job);
  return io::sha256_hex(std::as_bytes(std::span(text))).substr(0, kDigits);
}

}  // namespace calque::study
