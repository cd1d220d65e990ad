#include "calque/forecast/job_plan.h"

#include <algorithm>
#include <numeric>

#include "calque/forward/block_runner.h"
#include "pipeline/describe_plan.h"
#include "forecast/memory_moment.h"
#include "forecast/plan_groups.h"
#include "forecast/plan_warnings.h"
#include "pipeline/writer_inputs.h"

namespace calque::forecast {
namespace {

std::uint64_t bytes_of_files(const std::vector<formats::PlannedFile>& files, bool weights) {
  return std::accumulate(files.begin(), files.end(), std::uint64_t{0},
                         [&](std::uint64_t sum, const formats::PlannedFile& file) {
                           return sum + (file.weights == weights ? file.bytes : 0);
                         });
}

std::vector<formats::PlannedFile> files_of(const job::Job& job, const pipeline::SourceModel& source,
                                            const formats::ExportPlan& plan,
                                            const std::optional<calib::Importance>& importance) {
  const Index rows = job.calibration.given() ? job.calibration.packing.n_samples : 0;
  const std::optional<text::Vocabulary> vocabulary = vocabulary_for(job, source, plan.request);
  return formats::planned_files(plan,
                                 {.family = source.family,
                                  .source = *source.weights,
                                  .model_folder = job.model.path,
                                  .vocabulary = vocabulary ? &*vocabulary : nullptr,
                                  .provenance = provenance_of(job, source, plan, importance, rows),
                                  .carried = source.is_gguf() ? &source.metadata : nullptr});
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

JobPlan describe_plan(const job::Job& job, const pipeline::SourceModel& source,
                      const std::vector<formats::ExportPlan>& plans,
                      const std::optional<calib::Importance>& importance, const MemoryPlan& memory,
                      const MachineRates& rates, bool every_module) {
  JobPlan plan;
  plan.job_name = job.name;
  plan.memory = memory;
  plan.rates = rates;
  for (const formats::ExportPlan& exported : plans)
    plan.exports.push_back({exported, files_of(job, source, exported, importance),
                            planned_modules(job, exported, every_module)});
  const JobShapes shapes(job, source.family, plans);
  plan.disk = disk_of(shapes, memory, plan.exports);
  if (shapes.runs) {
    plan.forward_dtype = forward::name_of(forward::compute_dtype_from(job.runtime.forward_dtype));
    plan.calibration_rows = job.calibration.packing.n_samples;
    plan.seqlen = job.calibration.packing.seqlen;
  }
  plan.time = predict_time(job, source.family, plans, rates);
  plan.warnings = plan_warnings(job, source, plans, importance, memory, plan.disk);
  return plan;
}

JobPlan make_job_plan(const job::Job& job, const PlanOptions& options) {
  const pipeline::SourceModel source(job.model.path, job.model.allow_requantize);
  const std::vector<formats::ExportPlan> plans = plan_exports(job, source);
  JobPlan plan =
      describe_plan(job, source, plans, calib::load_importance(job, source.family),
                    plan_memory(job, source.family, plans),
                    measure_rates(job, options.seconds_to_measure), options.every_module);
  if (options.probe) plan.time = probe_time(job, plan.rates);
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
