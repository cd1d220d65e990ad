#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "calque/record/report.h"
#include "calque/resume/shared_work.h"
#include "calque/study/sweep_plan.h"

namespace calque::study {

// One artifact of a run, as measured on one text.
struct TextResult {
  std::string text;
  std::int64_t seqlen = 0;
  double ppl = 0;
  double ppl_uncertainty = 0;
  double ppl_original = 0;
  double kl_mean = 0;
  double kl_mean_uncertainty = 0;
  double kl_median = 0;
  double kl_p99 = 0;
  double top1_agreement = 0;
};
// One artifact of a run on one task, by the task's main metric (record/task.h).
struct TaskResult {
  std::string task;
  std::string metric;
  double value = 0;
  double standard_error = 0;
  double original = 0;
  double difference = 0;
  double difference_error = 0;
  double p_value = 1;
};
struct ArtifactResult {
  std::string name;
  std::string format;
  std::string type;  // gguf
  std::uint64_t file_bytes = 0;
  std::uint64_t tensor_bytes = 0;
  double bits_per_weight = 0;
  std::vector<TextResult> texts;  // empty: not evaluated
  std::vector<TaskResult> tasks;
};

// The result of a run that has ended: points/<hash>/point.json.
struct RunResult {
  int point = 0;
  int replicate = 0;
  std::string hash;
  Failure failure;  // none: done
  std::string method;
  int bits = 0;
  std::int64_t group_size = 0;
  bool sym = true;
  std::uint64_t source_bytes = 0;
  std::vector<ArtifactResult> artifacts;
  double seconds = 0;
  double quantize_seconds = 0;
  double statistics_seconds = 0;
  double forward_seconds = 0;
  double evaluate_seconds = 0;
  std::uint64_t peak_bytes = 0;
  std::vector<resume::SharedWork::Taken> shared;  // with the original seconds of each
  bool artifacts_kept = false;

  bool done() const { return !failure.any(); }
};

// `report` is null if the run failed.
RunResult result_of(const Run& run, const record::Report* report);

void write_result(const std::filesystem::path& folder, const RunResult& result);
// nullopt if the run has not ended, or if the file is damaged (treated as not ended).
std::optional<RunResult> read_result(const std::filesystem::path& folder);

}  // namespace calque::study
