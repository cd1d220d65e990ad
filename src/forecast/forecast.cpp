#include "calque/forecast/forecast.h"

#include <fmt/format.h>

#include <algorithm>
#include <numeric>
#include <utility>

#include "calque/core/units.h"
#include "calque/formats/format.h"
#include "calque/formats/reader.h"
#include "calque/forward/block_runner.h"
#include "calque/job/passes.h"
#include "calque/job/stage_devices.h"
#include "forecast/planned_modules.h"
#include "forecast/stage_memory.h"

namespace calque::forecast {
namespace {

std::uint64_t bytes_of_files(const std::vector<formats::PlannedFile>& files, bool weights) {
  return std::accumulate(files.begin(), files.end(), std::uint64_t{0},
                         [&](std::uint64_t sum, const formats::PlannedFile& file) {
                           return sum + (file.weights == weights ? file.bytes : 0);
                         });
}

DiskUse disk_of(const JobShapes& shapes, const MemoryPlan& memory,
                const std::vector<PlannedExport>& exports) {
  DiskUse disk;
  for (const PlannedExport& planned : exports)
    disk.output_bytes += planned.weights_bytes() + planned.other_bytes();
  disk.activation_bytes = memory.activation_file_bytes;
  const bool saves = shapes.job.runtime.checkpoint != "off" && !shapes.job.run_dir.empty();
  if (!shapes.runs || !saves) return disk;
  // The newer state is written before the older one is removed.
  disk.state_bytes =
      2 * (shapes.upstream ? 2 : 1) * shapes.calibration_tokens() * shapes.state_bytes();
  return disk;
}

// ---- Warnings that headers and settings already allow, and facts worth knowing before a run

using Warnings = std::vector<std::string>;

void add(const std::string& warning, Warnings& to) {
  if (!warning.empty() && std::find(to.begin(), to.end(), warning) == to.end())
    to.push_back(warning);
}

void warn_of_export(const job::Job& job, const formats::ExportPlan& plan, Warnings& warnings) {
  const std::string name = plan.request.path.filename().string();
  const auto about = [&](const std::string& text) {
    if (!text.empty()) add(name + ": " + text, warnings);
  };
  for (const std::string& remark : plan.remarks) about(remark);
  about(formats::runtime_limit(plan));
  if (plan.request.desc_act) about("desc_act: kernels for activation-ordered groups are slower");
  add(job::missing_tokenizer(job, plan.request), warnings);
  add(job::unused_scales(job, plan), warnings);
  if (!formats::files_at(plan.request).empty()) about("already exists and will be replaced");
}

void warn_of_precision(const job::Job& job, Warnings& warnings) {
  const std::string& dtype = job.runtime.forward_dtype;
  if (dtype == "auto") return;
  const forward::ComputeDType fast = forward::compute_dtype_from("auto");
  if (forward::compute_dtype_from(dtype) == fast) return;
  add(fmt::format("runtime.forward_dtype: {} is slower than {} on this processor", dtype,
                  forward::name_of(fast)),
      warnings);
}

// With fewer tokens than inputs the Gram matrix is singular, and damping dominates.
void warn_of_few_tokens(const job::Job& job, const model::FamilySpec& family, Warnings& warnings) {
  const std::int64_t tokens = job.calibration.packing.n_samples * job.calibration.packing.seqlen;
  Index widest = 0;
  for (const model::BlockSpec& block : family.blocks)
    for (const model::SiteSpec& site : block.sites)
      if (site.expert < 0) widest = std::max(widest, site.features());
  if (tokens > 0 && tokens < widest)
    add(fmt::format("calibration has {} tokens, but the widest linear has {} inputs: its Hessian "
                    "is singular, and damping dominates",
                    tokens, widest),
        warnings);
}

std::filesystem::path existing_parent(std::filesystem::path path) {
  path = std::filesystem::absolute(path);
  std::error_code ignored;
  while (!std::filesystem::exists(path, ignored) && path.has_relative_path())
    path = path.parent_path();
  return path;
}

void warn_of_space(const std::filesystem::path& at, std::uint64_t needed, Warnings& warnings) {
  if (needed == 0 || at.empty()) return;
  std::error_code failure;
  const auto space = std::filesystem::space(existing_parent(at), failure);
  if (failure || space.available >= needed) return;
  add(fmt::format("{}: {:.2f} GiB are needed, but only {:.2f} GiB are free", at.string(),
                  static_cast<double>(needed) / kGiB, static_cast<double>(space.available) / kGiB),
      warnings);
}

void warn_of_files(const job::Job& job, const MemoryPlan& memory, const DiskUse& disk,
                   Warnings& warnings) {
  if (!job.exports.empty()) warn_of_space(job.exports.front().path, disk.output_bytes, warnings);
  const std::filesystem::path& offload =
      job.runtime.offload_dir.empty() ? job.run_dir : job.runtime.offload_dir;
  warn_of_space(offload, disk.activation_bytes, warnings);
  if (memory.activation_file_bytes > 0)
    add(fmt::format("runtime.max_ram: up to {:.2f} GiB of activations go to files in {}, which is "
                    "slower than memory",
                    static_cast<double>(memory.activation_file_bytes) / kGiB, offload.string()),
        warnings);
}

bool is_gpu(const std::string& device) { return device.starts_with("cuda"); }

void warn_of_devices(const job::StageDevices& devices, Warnings& warnings) {
  if (is_gpu(devices.forward) || is_gpu(devices.statistics) || is_gpu(devices.transform) ||
      is_gpu(devices.quantize) || is_gpu(devices.pack))
    add("some stages run on a GPU (" + job::shown(devices) +
            "): without --probe the predicted time is that of the CPU, and GPU memory is not "
            "counted",
        warnings);
}

std::vector<std::string> warnings_of(const DecidedJob& decided, bool runs, const DiskUse& disk) {
  const job::Job& job = decided.job;
  Warnings warnings;
  for (const formats::ExportPlan& plan : decided.plans) warn_of_export(job, plan, warnings);
  for (const std::string& remark : decided.remarks) add(remark, warnings);
  add(decided.importance_warning, warnings);
  if (runs) warn_of_precision(job, warnings);
  if (runs && job.quantization.rounding->feeds_back)
    warn_of_few_tokens(job, decided.family, warnings);
  if (!runs && !job.calibration.save_imatrix.empty())
    add("calibration.save_imatrix: no export quantizes a linear, nothing will be measured",
        warnings);
  warn_of_files(job, decided.memory, disk, warnings);
  warn_of_devices(decided.devices, warnings);
  return warnings;
}

}  // namespace

std::uint64_t PlannedExport::weights_bytes() const { return bytes_of_files(files, true); }
std::uint64_t PlannedExport::other_bytes() const { return bytes_of_files(files, false); }

Forecast forecast_of(DecidedJob decided) {
  const job::Job& job = decided.job;
  Forecast forecast;
  forecast.job_name = job.name;
  forecast.memory = decided.memory;
  forecast.rates = decided.rates;
  for (std::size_t i = 0; i < decided.plans.size(); ++i)
    forecast.exports.push_back({decided.plans[i], std::move(decided.files[i]),
                                planned_modules(job, decided.plans[i], decided.every_module)});
  const JobShapes shapes(job, decided.family, decided.plans);
  forecast.disk = disk_of(shapes, decided.memory, forecast.exports);
  if (shapes.runs) {
    forecast.forward_dtype =
        forward::name_of(forward::compute_dtype_from(job.runtime.forward_dtype));
    forecast.calibration_rows = job.calibration.packing.n_samples;
    forecast.seqlen = job.calibration.packing.seqlen;
  }
  forecast.time = predict_time(job, decided.family, decided.plans, decided.rates);
  forecast.warnings = warnings_of(decided, shapes.runs, forecast.disk);
  return forecast;
}

record::Predicted with_time(record::Predicted predicted, const TimePrediction& time) {
  predicted.seconds = time.seconds;
  predicted.seconds_from = time.from;
  predicted.stages = time.stages;
  return predicted;
}

record::Predicted predicted_of(const Forecast& forecast) {
  record::Predicted predicted;
  predicted.peak_bytes = forecast.memory.peak_bytes;
  predicted.disk_bytes = forecast.disk.total();
  for (const PlannedExport& planned : forecast.exports)
    predicted.file_bytes.push_back(planned.weights_bytes());
  return with_time(predicted, forecast.time);
}

}  // namespace calque::forecast
