#include "calque/forecast/job_plan.h"

#include <algorithm>
#include <numeric>
#include <utility>

#include "calque/forward/block_runner.h"
#include "forecast/memory_moment.h"
#include "forecast/plan_groups.h"
#include "forecast/plan_warnings.h"

namespace calque::forecast {
namespace {

std::uint64_t bytes_of_files(const std::vector<formats::PlannedFile>& files, bool weights) {
  return std::accumulate(files.begin(), files.end(), std::uint64_t{0},
                         [&](std::uint64_t sum, const formats::PlannedFile& file) {
                           return sum + (file.weights == weights ? file.bytes : 0);
                         });
}

DiskPlan disk_of(const JobShapes& shapes, const MemoryPlan& memory,
                 const std::vector<PlannedExport>& exports) {
  DiskPlan disk;
  for (const PlannedExport& planned : exports)
    disk.output_bytes += planned.weights_bytes() + planned.other_bytes();
  disk.activation_bytes = memory.activation_file_bytes;
  const bool saves = shapes.job.runtime.checkpoint != "off" && !shapes.job.run_dir.empty();
  if (!shapes.runs || !saves) return disk;
  // The newer state is there before the older one goes.
  const Bytes hidden = 4 * calibration_tokens(shapes) * bytes_of(shapes.family.config.hidden_size);
  disk.state_bytes = 2 * (shapes.upstream ? 2 : 1) * hidden;
  return disk;
}

}  // namespace

std::uint64_t PlannedExport::weights_bytes() const { return bytes_of_files(files, true); }
std::uint64_t PlannedExport::other_bytes() const { return bytes_of_files(files, false); }

JobPlan describe_plan(DecidedJob decided) {
  const job::Job& job = decided.job;
  JobPlan plan;
  plan.job_name = job.name;
  plan.memory = decided.memory;
  plan.rates = decided.rates;
  for (std::size_t i = 0; i < decided.plans.size(); ++i)
    plan.exports.push_back({decided.plans[i], std::move(decided.files[i]),
                            planned_modules(job, decided.plans[i], decided.every_module)});
  const JobShapes shapes(job, decided.family, decided.plans);
  plan.disk = disk_of(shapes, decided.memory, plan.exports);
  if (shapes.runs) {
    plan.forward_dtype = forward::name_of(forward::compute_dtype_from(job.runtime.forward_dtype));
    plan.calibration_rows = job.calibration.packing.n_samples;
    plan.seqlen = job.calibration.packing.seqlen;
  }
  plan.time = predict_time(job, decided.family, decided.plans, decided.rates);
  plan.warnings = plan_warnings(decided, plan.disk);
  return plan;
}

record::Predicted with_time(record::Predicted predicted, const TimePrediction& time) {
  predicted.seconds = time.seconds;
  predicted.seconds_from = time.from;
  predicted.stages = time.stages;
  return predicted;
}

record::Predicted predicted_of(const JobPlan& plan) {
  record::Predicted predicted;
  predicted.peak_bytes = plan.memory.peak_bytes;
  predicted.disk_bytes = plan.disk.total();
  for (const PlannedExport& planned : plan.exports)
    predicted.file_bytes.push_back(planned.weights_bytes());
  return with_time(predicted, plan.time);
}

}  // namespace calque::forecast
