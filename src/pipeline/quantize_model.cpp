#include "calque/pipeline/quantize_model.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <memory>

#include "calque/core/error.h"
#include "calque/core/instruction_set.h"
#include "calque/core/parallel.h"
#include "calque/core/stopwatch.h"
#include "calque/formats/reader.h"
#include "calque/io/file.h"
#include "calque/io/scratch.h"
#include "calque/job/check_job.h"
#include "calque/job/passes.h"
#include "calque/pipeline/evaluate_tasks.h"
#include "calque/pipeline/evaluate_texts.h"
#include "calque/pipeline/forecast_job.h"
#include "calque/publish/publish.h"
#include "calque/resume/run_folder.h"
#include "calque/resume/shared_work.h"
#include "pipeline/allocate.h"
#include "pipeline/first_block.h"
#include "pipeline/memory_meter.h"
#include "pipeline/outputs.h"
#include "pipeline/pass.h"
#include "pipeline/run_log.h"

namespace calque::pipeline {
namespace {

constexpr double kSecondsToMeasure = 0.05;

// Keeps activations in memory as far as the plan allows.
std::shared_ptr<io::ScratchSpace> scratch_for(const OpenedJob& opened) {
  const bool files = opened.memory.activation_file_bytes > 0;
  const job::Job& job = opened.job;
  const std::filesystem::path& folder =
      job.runtime.offload_dir.empty() ? job.run_dir : job.runtime.offload_dir;
  return std::make_shared<io::ScratchSpace>(opened.memory.activation_budget_bytes,
                                            files ? folder : std::filesystem::path());
}

// The report as far as it is known at the start; measurements are added later.
record::Report begin_report(const OpenedJob& opened, const resume::RunProgress& before,
                            const AllocatedJob* allocated) {
  record::Report report;
  report.job_name = opened.job.name;
  report.source_name = opened.source_name();
  report.threads =
      opened.job.runtime.threads > 0 ? opened.job.runtime.threads : available_threads();
  report.instruction_set = name_of(instruction_set());
  report.stage_devices = opened.devices;
  report.source_bytes = opened.source.weights->total_bytes();
  report.source_bits_per_weight = opened.source.bits_per_weight();
  report.stages = before.totals.stages;
  if (allocated != nullptr) {
    report.allocation = allocated->allocation;
  }
  report.resumed = before.resumed;
  report.artifacts.resize(opened.plans.size());
  return report;
}

// Runs an opened job.
class JobRun {
 public:
  // `allocated`: the job had a target size; null: it had none.
  JobRun(const OpenedJob& opened, resume::RunFolder& folder, RunLog& log, const Stopwatch& watch,
         MemoryMeter& memory, const RunOptions& options, const AllocatedJob* allocated)
      : opened_(opened),
        job_(opened.job),
        options_(options),
        folder_(folder),
        log_(log),
        watch_(watch),
        memory_(memory),
        allocated_(allocated),
        report_(begin_report(opened, folder.progress(), allocated)),
        scratch_(scratch_for(opened)),
        forecast_(forecast_job(opened, forecast::measure_rates(job_, kSecondsToMeasure))),
        first_block_(log, opened, forecast_.rates, report_.stages, forecast_.time),
        outputs_(opened, folder, log) {}

  record::Report run() {
    begin();
    read_calibration();
    const auto passes = job::group_by_grids(opened_.plans);
    for (std::size_t number = 0; number < passes.size(); ++number)
      quantize(number, passes[number], !job_.evaluate && number + 1 == passes.size());
    if (recorder() != nullptr)
      log_.warning("calibration.save_imatrix: no export quantizes a linear, nothing was measured");
    if (job_.evaluate) evaluate();
    report();
    publish();
    folder_.finish();
    return std::move(report_);
  }

 private:
  void begin() {
    folder_.set_totals([this] { return totals(); });
    if (!job_.run_dir.empty()) io::write_file(job_.run_dir / "plan.json", forecast_json(forecast_));
    if (!options_.resolved_yaml.empty() && !job_.run_dir.empty()) {
      std::filesystem::remove(job_.run_dir /
                              "metrics.json");  // its existence means that a run is finished
      io::write_file(job_.run_dir / "job.resolved.yaml", options_.resolved_yaml);
    }
    for (const std::string& remark : opened_.contradictions()) log_.warning(remark);
    for (const std::string& line : opened_.notes()) log_.note(line);
    log_.note(fmt::format("devices: {}", job::shown(opened_.devices)));
    log_.seconds_left(forecast_.time.seconds - sum(report_.stages));
    folder_.require_devices(opened_.devices, forward_dtype());
  }

  void read_calibration() {
    if (job_.calibration.given()) {
      const TimedScope timed(report_.stages.tokenize);
      text::PackedTokens packed =
          opened_.tokens.calibration(job_.calibration, opened_.source.family.config.vocab_size);
      calibration_ = std::move(packed.blocks);
      report_.calibration = std::move(packed.manifest);
      folder_.require_calibration(report_.calibration);
      log_.note(fmt::format("calibration: {} rows of {} tokens; first ids {}", calibration_.rows(),
                            calibration_.seqlen(), fmt::join(report_.calibration.first_ids, " ")));
    }
    if (!job_.evaluate) opened_.tokens.close();
    read_evaluation();
    if (opened_.importance && !opened_.importance->warning().empty())
      log_.warning(opened_.importance->warning());
  }

  // Before the passes, so that a text that is too short or damaged does not end a job at its end.
  void read_evaluation() {
    if (!job_.evaluate) return;
    const TimedScope timed(report_.stages.tokenize);
    for (const job::EvaluationText& text : job_.evaluate->named_texts())
      opened_.tokens.prepare_evaluation(text, job_.evaluate->seqlen, job_.evaluate->add_bos,
                                        opened_.source.family.config);
  }

  // One pass over the model for a set of exports with the same grids.
  void quantize(std::size_t number, const std::vector<std::size_t>& exports, bool is_last) {
    const formats::ExportPlan& plan = opened_.plans[exports.front()];
    const resume::PassProgress before = folder_.pass(number);
    Writers writers = outputs_.open(exports, before, calibration_.rows());
    tell_what_is_done(plan, before);
    if (writers.empty()) {
      if (measures(plan)) recorder_.mark_written();  // by the process that finished the pass
      return finish(exports, writers, modules_before(plan, before));
    }

    log_.phase_started(title(exports), block_count());
    std::unique_ptr<forward::BlockRunner> runner;
    std::shared_ptr<const calib::KvPeaks> kv_peaks;
    resume::StatisticsStore* statistics = nullptr;
    if (measures(plan)) {
      report_.forward_dtype = forward_dtype();
      if (job::needs_kv_peaks(opened_.job)) kv_peaks = std::make_shared<calib::KvPeaks>();
      // Shared statistics hold no peaks.
      const bool peaks = kv_peaks || job::needs_input_peaks(opened_.job, plan);
      statistics = peaks ? nullptr : statistics_store();
      if (statistics == nullptr || !statistics->complete())
        runner = runner_for(opened_, plan, scratch_, kv_peaks);
    }
    first_block_.start_pass(plan, exports.size());
    const double measuring_before = measuring_seconds();
    const RunContext run{.opened = opened_,
                         .calibration = calibration_,
                         .scratch = scratch_,
                         .observer = first_block_,
                         .stages = report_.stages,
                         .memory = memory_,
                         .folder = folder_.saves() ? &folder_ : nullptr};
    const std::vector<record::ModuleReport> modules = run_pass({.run = run,
                                                                .plan = plan,
                                                                .writers = writers,
                                                                .runner = runner.get(),
                                                                .statistics = statistics,
                                                                .kv_peaks = kv_peaks.get(),
                                                                .recorder = recorder(),
                                                                .number = number,
                                                                .is_last = is_last});
    if (runner && statistics != nullptr)
      finish_statistics(*statistics, measuring_seconds() - measuring_before);
    if ((runner || statistics != nullptr) && recorder() != nullptr)
      recorder_.write(job_.calibration.save_imatrix, job_.calibration.file_names(),
                      calibration_.rows(), calibration_.seqlen());
    finish(exports, writers, modules);
  }

  void finish(const std::vector<std::size_t>& exports, Writers& writers,
              const std::vector<record::ModuleReport>& modules) {
    const TimedScope timed(report_.stages.write);
    const MemoryMeter::Scope memory(memory_, "write");
    outputs_.finish(exports, writers, modules, report_.artifacts);
  }

  // Evaluates the written files, never the weights in memory.
  void evaluate() {
    const TimedScope timed(report_.stages.evaluate);
    const MemoryMeter::Scope memory(memory_, "evaluate");
    std::vector<std::unique_ptr<formats::ArtifactReader>> readers;
    std::vector<eval::EvalModel> candidates;
    for (const formats::ExportPlan& plan : opened_.plans) {
      readers.push_back(formats::open_artifact(plan.request.path));
      candidates.push_back(evaluated(plan.request.path.filename().string(), *readers.back()));
    }
    const auto states = options_.shared ? options_.shared->reference(job_) : nullptr;
    const double spared_before = states ? states->spared_seconds() : 0;
    const EvaluationWork work{
        .settings = *job_.evaluate,
        .tokens = opened_.tokens,
        .original = {"original", opened_.source.weights.get(), &opened_.source.family.config},
        .artifacts = candidates,
        .runner = {.dtype = job::forward_dtype(job_.evaluate->dtype, opened_.devices.forward),
                   .threads = job_.runtime.threads,
                   .device = opened_.devices.forward,
                   .scratch = scratch_},
        .reference_states = states,
        .finished = folder_.progress().evaluations,
        .keep = [&](const auto& text) { folder_.evaluation_finished(text); },
        .tasks = opened_.tasks,
        .finished_tasks = folder_.progress().tasks,
        .keep_task = [&](const auto& task) { folder_.evaluation_finished(task); }};
    report_.evaluations = evaluate_texts(work, log_);
    report_.tasks = evaluate_tasks(work, log_);
    if (states && states->spared_seconds() > spared_before)
      options_.shared->took("reference", states->spared_seconds() - spared_before);
  }

  void report() {
    report_.seconds = totals().seconds;
    report_memory();
    report_.predicted = predicted_of(forecast_);
    if (allocated_ != nullptr) add_allocation();
    if (options_.shared)
      for (const resume::SharedWork::Taken& taken : options_.shared->taken())
        report_.shared.push_back(taken.what);
    report_.warnings = log_.warnings();
    log_.finish(report_);
  }

  // Known when the rest was predicted.
  void add_allocation() {
    report_.stages += allocated_->stages;
    report_.predicted.stages += allocated_->stages;
    report_.predicted.seconds += sum(allocated_->stages);
  }

  void publish() const {
    if (options_.resolved_yaml.empty()) return;
    for (std::size_t i = 0; i < opened_.plans.size(); ++i)
      publish::publish_folder(report_, i, job_, options_.resolved_yaml);
  }

  // ---- Helpers of these steps

  resume::RunTotals totals() {
    const resume::RunTotals& before = folder_.progress().totals;
    return {.seconds = seconds_before_ + watch_.seconds(),
            .stages = report_.stages,
            .warnings = log_.warnings(),
            .log_bytes = log_.log_bytes(),
            .peak_bytes = std::max(before.peak_bytes, memory_.peak_bytes())};
  }

  void report_memory() {
    report_.peak_bytes = totals().peak_bytes;
    report_.predicted_peak_bytes = opened_.memory.peak_bytes;
    report_.activation_file_bytes = scratch_->peak_file_bytes();
    const auto measured = memory_.stages();
    for (const forecast::MemoryPlan::Stage& stage : opened_.memory.stages) {
      const auto found = measured.find(stage.stage);
      report_.stage_peaks.push_back(
          {stage.stage, stage.peak_bytes(), found == measured.end() ? 0 : found->second});
    }
  }

  double measuring_seconds() const { return report_.stages.forward + report_.stages.statistics; }

  Index block_count() const { return static_cast<Index>(opened_.source.family.blocks.size()); }

  std::string forward_dtype() const {
    return std::string(
        forward::name_of(job::forward_dtype(job_.runtime.forward_dtype, opened_.devices.forward)));
  }

  std::string title(const std::vector<std::size_t>& exports) const {
    std::vector<std::string> names;
    for (const std::size_t i : exports)
      names.push_back(opened_.plans[i].request.path.filename().string());
    return fmt::format("quantize ({}) for {}", job::method_of(job_, opened_.plans[exports.front()]),
                       fmt::join(names, ", "));
  }

  bool measures(const formats::ExportPlan& plan) const {
    return calibration_.rows() > 0 && job::quantizes_a_linear(plan);
  }

  // With propagate_error: false, the store in which other jobs find this job's statistics. Lack of
  // disk space for it is not an error.
  resume::StatisticsStore* statistics_store() {
    resume::StatisticsStore* store = shared_statistics(job_,
                                                       {.family = opened_.measured,
                                                        .calibration = report_.calibration,
                                                        .tokens = calibration_,
                                                        .forward_dtype = report_.forward_dtype,
                                                        .devices = opened_.devices},
                                                       options_.shared);
    if (store == nullptr || store->complete() ||
        store->make_room(resume::statistics_bytes(opened_.measured)))
      return store;
    log_.warning("statistics are not shared: " + store->trouble());
    return nullptr;
  }

  void finish_statistics(resume::StatisticsStore& statistics, double seconds) {
    statistics.finish(opened_.measured, seconds);
    if (!statistics.trouble().empty())
      log_.warning("statistics are not shared: " + statistics.trouble());
  }

  // Modules of a pass that an earlier process worked on.
  std::vector<record::ModuleReport> modules_before(const formats::ExportPlan& plan,
                                                   const resume::PassProgress& before) const {
    return with_grids(before.rounding.modules, opened_.source.family, plan);
  }

  void tell_what_is_done(const formats::ExportPlan& plan, const resume::PassProgress& before) {
    if (before.blocks == 0) return;
    for (const record::ModuleReport& module : modules_before(plan, before)) log_.write_row(module);
    log_.note(fmt::format("resuming: {} of {} blocks are finished", before.blocks, block_count()));
  }

  // Only the first measuring pass records; later ones would see the same, or other codes' errors.
  calib::ImatrixRecorder* recorder() {
    const bool wanted = !job_.calibration.save_imatrix.empty() && !recorder_.written();
    return wanted ? &recorder_ : nullptr;
  }

  const OpenedJob& opened_;
  const job::Job& job_;
  const RunOptions& options_;
  resume::RunFolder& folder_;
  RunLog& log_;
  const Stopwatch& watch_;  // started with the run
  const double seconds_before_ = folder_.progress().totals.seconds;
  MemoryMeter& memory_;
  const AllocatedJob* allocated_;
  record::Report report_;
  std::shared_ptr<io::ScratchSpace> scratch_;
  forecast::Forecast forecast_;  // its time is predicted again after the first block
  FirstBlock first_block_;
  Outputs outputs_;
  text::TokenBlocks calibration_;
  calib::ImatrixRecorder recorder_;
};

job::TokenSharing sharing_of(resume::SharedWork* shared) {
  if (shared == nullptr) return {};
  return [shared](const std::string& key, const std::function<text::PackedTokens()>& make) {
    return shared->tokens(key, make);
  };
}

record::Report run_settled(const job::Job& job, record::Observer& observer,
                           const RunOptions& options, resume::SavedRun& saved,
                           const Stopwatch& watch, MemoryMeter& memory,
                           const AllocatedJob* allocated) {
  job::check_distinct_paths(job.exports);  // the folder would find them locked by this process
  resume::RunFolder folder(job, options.resume, options.settings, saved);
  if (options.shared) options.shared->start_job();
  const OpenedJob opened = open_job(
      job, {.targets = folder.goes_on() ? Targets::kOwnToo : Targets::kOthers,
            .sharing = sharing_of(options.shared),
            .allocated = allocated == nullptr ? std::nullopt : std::optional(allocated->shape)});
  RunLog log(job.run_dir, observer, folder.progress());  // a refused job leaves no files
  return JobRun(opened, folder, log, watch, memory, options, allocated).run();
}

record::Report run_job(const job::Job& job, record::Observer& observer, const RunOptions& options,
                       resume::SavedRun& saved) {
  const Stopwatch watch;
  MemoryMeter memory;
  if (!job.quantization.allocation.wanted())
    return run_settled(job, observer, options, saved, watch, memory, nullptr);
  const bool goes_on = options.resume == resume::Resume::kAuto && resume::can_resume(job.run_dir);
  const AllocatedJob allocated = allocate(job, observer, memory,
                                          {.targets = goes_on ? Targets::kOwnToo : Targets::kOthers,
                                           .sharing = sharing_of(options.shared)});
  return run_settled(allocated.job, observer, options, saved, watch, memory, &allocated);
}

}  // namespace

record::Report quantize_model(const job::Job& job, record::Observer& observer,
                              const RunOptions& options) {
  resume::SavedRun own;
  resume::SavedRun& saved = options.saved ? *options.saved : own;
  try {
    return run_job(job, observer, options, saved);
  } catch (const Error& error) {
    // The same weights and settings give the same numbers again.
    if (saved.sentence().empty() || error.kind() == ErrorKind::kNumerical) throw;
    std::string text = error.what();
    if (!text.ends_with('.')) text += '.';
    throw Error(error.kind(), error.code(), text + ' ' + saved.sentence());
  }
}

}  // namespace calque::pipeline
