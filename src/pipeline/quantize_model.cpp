#include "calque/pipeline/quantize_model.h"

#include <fmt/format.h>

#include <algorithm>
#include <memory>

#include "calque/formats/reader.h"
#include "calque/core/error.h"
#include "calque/core/parallel.h"
#include "calque/io/file.h"
#include "calque/io/scratch.h"
#include "calque/forward/block_runner.h"
#include "calque/pipeline/evaluate_texts.h"
#include "calque/forecast/memory_plan.h"
#include "calque/publish/publish.h"
#include "calque/resume/saved_run.h"
#include "calque/quant/methods.h"
#include "pipeline/describe_plan.h"
#include "pipeline/export_writers.h"
#include "pipeline/first_block.h"
#include "job/job_tokens.h"
#include "pipeline/memory_meter.h"
#include "pipeline/pass.h"
#include "job/pass_method.h"
#include "pipeline/pass_saving.h"
#include "pipeline/plan_job.h"
#include "resume/run_fields.h"
#include "pipeline/run_log.h"
#include "resume/run_state.h"
#include "resume/shared_statistics.h"
#include "job/stage_devices.h"
#include "pipeline/stopwatch.h"
#include "job/upstream_settings.h"
#include "pipeline/writer_inputs.h"

namespace calque::pipeline {
namespace {

constexpr double kSecondsToMeasure = 0.05;

// Activations stay in memory as far as the plan has room for them.
std::shared_ptr<io::ScratchSpace> scratch_for(const job::Job& job, const forecast::MemoryPlan& plan) {
  const bool files = plan.activation_file_bytes > 0;
  const std::filesystem::path& folder =
      job.runtime.offload_dir.empty() ? job.run_dir : job.runtime.offload_dir;
  return std::make_shared<io::ScratchSpace>(plan.activation_budget_bytes,
                                            files ? folder : std::filesystem::path());
}

// One job on its way: what every step needs.
class JobRun {
 public:
  JobRun(const job::Job& job, Observer& observer, const RunOptions& options)
      : job_(job),
        options_(options),
        state_(job, options),
        log_(job.run_dir, observer, state_.progress()),
        source_(job.model.path, job.model.allow_requantize),
        plans_(plan_exports(job, source_, state_.goes_on() ? Targets::kOwnToo : Targets::kOthers)),
        importance_(calib::load_importance(job, source_.family)),
        devices_(choose_devices(job, plans_, job::this_machine())),
        execs_(open_devices(devices_, job.runtime.threads)),
        memory_plan_(forecast::plan_memory(job, source_.family, plans_)),
        scratch_(scratch_for(job, memory_plan_)),
        plan_(describe_plan(job, source_, plans_, importance_, memory_plan_,
                            forecast::measure_rates(job, kSecondsToMeasure))),
        first_block_(log_, job, source_.family, plans_, plan_.rates, report_.stages, plan_.time),
        writers_(job, source_, plans_, importance_, execs_.pack, state_, log_) {
    if (options.shared) options.shared->start_job();
    report_.job_name = job.name;
    report_.source_name = name_of_model(job.model.path);
    report_.threads = job.runtime.threads > 0 ? job.runtime.threads : available_threads();
    if (!job.run_dir.empty()) io::write_file(job.run_dir / "plan.json", job_plan_json(plan_));
    report_.stage_devices = devices_;
    report_.source_bytes = source_.weights->total_bytes();
    report_.source_bits_per_weight = source_.bits_per_weight();
    report_.stages = state_.progress().totals.stages;
    report_.resumed = state_.progress().resumed;
    state_.set_totals([this] { return totals(); });
  }

  record::Report run() {
    if (!options_.resolved_yaml.empty() && !job_.run_dir.empty()) begin_run_folder();
    log_.note(fmt::format("devices: {}", shown(devices_)));
    state_.require("devices", resume::device_fields(devices_, forward_dtype()));
    read_calibration();
    if (importance_ && !importance_->warning().empty()) log_.warning(importance_->warning());
    report_.artifacts.resize(plans_.size());
    const auto passes = group_by_grids(plans_);
    for (std::size_t number = 0; number < passes.size(); ++number)
      write_exports(number, passes[number]);
    if (recorder() != nullptr)
      log_.warning("calibration.save_imatrix: no export quantizes a linear, nothing was measured");
    if (job_.evaluate) evaluate();
    report_.seconds = totals().seconds;
    report_memory();
    report_.predicted = predicted_of(plan_);
    if (options_.shared)
      for (const resume::SharedWork::Taken& taken : options_.shared->taken())
        report_.shared.push_back(taken.what);
    report_.warnings = log_.warnings();
    log_.finish(report_);
    if (!options_.resolved_yaml.empty())
      for (std::size_t i = 0; i < plans_.size(); ++i)
        publish::publish_folder(report_, i, job_, options_.resolved_yaml);
    state_.finish();
    return std::move(report_);
  }

 private:
  // metrics.json tells that a run is finished.
  void begin_run_folder() const {
    std::filesystem::remove(job_.run_dir / "metrics.json");
    io::write_file(job_.run_dir / "job.resolved.yaml", options_.resolved_yaml);
  }

  resume::RunTotals totals() {
    const resume::RunTotals& before = state_.progress().totals;
    return {.seconds = seconds_before_ + watch_.seconds(),
            .stages = report_.stages,
            .warnings = log_.warnings(),
            .log_bytes = log_.log_bytes(),
            .peak_bytes = std::max(before.peak_bytes, memory_.peak_bytes())};
  }

  void report_memory() {
    report_.peak_bytes = totals().peak_bytes;
    report_.predicted_peak_bytes = memory_plan_.peak_bytes;
    report_.activation_file_bytes = scratch_->peak_file_bytes();
    const auto measured = memory_.stages();
    for (const forecast::MemoryPlan::Stage& stage : memory_plan_.stages) {
      const auto found = measured.find(stage.stage);
      report_.stage_peaks.push_back(
          {stage.stage, stage.peak_bytes(), found == measured.end() ? 0 : found->second});
    }
  }

  void read_calibration() {
    if (!job_.calibration.given()) return;
    const TimedScope timed(report_.stages.tokenize);
    text::PackedTokens packed =
        calibration_tokens(job_, source_.family.config.vocab_size, options_.shared);
    calibration_ = std::move(packed.blocks);
    report_.calibration = std::move(packed.manifest);
    state_.require("calibration", resume::calibration_fields(report_.calibration));
    log_.note(fmt::format("calibration: {} rows of {} tokens; first ids {}", calibration_.rows(),
                          calibration_.seqlen(), fmt::join(report_.calibration.first_ids, " ")));
  }

  // Every GPU that LibTorch's operators are fast on multiplies bf16 natively.
  forward::ComputeDType dtype_for(const std::string& name) const {
    const bool on_gpu = execs_.forward.starts_with("cuda");
    return name == "auto" && on_gpu ? forward::ComputeDType::kBFloat16
                                    : forward::compute_dtype_from(name);
  }

  std::string forward_dtype() const {
    return std::string(model::name_of(dtype_for(job_.runtime.forward_dtype)));
  }

  // What is compared with the original's stream, or summed on another device, comes to the host.
  std::unique_ptr<forward::BlockRunner> make_runner(const formats::ExportPlan& plan) const {
    return forward::make_block_runner(source_.family.config,
                                    {.dtype = dtype_for(job_.runtime.forward_dtype),
                                     .threads = job_.runtime.threads,
                                     .device = execs_.forward,
                                     .scratch = scratch_,
                                     .host_views = devices_.statistics != devices_.forward ||
                                                   upstream_correction_for(job_, plan) > 0});
  }

  std::string method_for(const formats::ExportPlan& plan) const { return method_of(job_, plan); }

  std::string title(const std::vector<std::size_t>& exports) const {
    std::vector<std::string> names;
    for (const std::size_t i : exports) names.push_back(plans_[i].request.path.filename().string());
    return fmt::format("quantize ({}) for {}", method_for(plans_[exports.front()]),
                       fmt::join(names, ", "));
  }

  void write_exports(std::size_t number, const std::vector<std::size_t>& exports) {
    const formats::ExportPlan& plan = plans_[exports.front()];
    const resume::PassProgress before = state_.pass(number);
    Writers writers = writers_.open(exports, before, calibration_.rows());
    tell_what_is_done(plan, before);
    if (writers.empty()) {
      if (measures(plan)) recorder_.mark_written();  // by the process that finished the pass
      return finish(exports, writers, before_modules(plan, before));
    }

    log_.phase_started(title(exports), static_cast<Index>(source_.family.blocks.size()));
    std::unique_ptr<forward::BlockRunner> runner;
    resume::StatisticsStore* statistics = nullptr;
    if (measures(plan)) {
      report_.forward_dtype = forward_dtype();
      statistics = statistics_store();
      if (statistics == nullptr || !statistics->complete()) runner = make_runner(plan);
    }
    first_block_.start_pass(plan, exports.size());
    const double seconds_before = report_.stages.forward + report_.stages.statistics;
    const std::vector<record::ModuleReport> modules =
        run_pass({.job = job_,
                  .source = source_,
                  .plan = plan,
                  .writers = writers,
                  .runner = runner.get(),
                  .calibration = &calibration_,
                  .importance = importance_ ? &*importance_ : nullptr,
                  .recorder = recorder(),
                  .statistics = statistics,
                  .execs = execs_,
                  .observer = first_block_,
                  .stages = report_.stages,
                  .memory = memory_,
                  .upstream_correction = upstream_correction_for(job_, plan),
                  .scratch = scratch_,
                  .state = state_.saves() ? &state_ : nullptr,
                  .number = number});
    if (runner && statistics != nullptr)
      finish_statistics(*statistics,
                        report_.stages.forward + report_.stages.statistics - seconds_before);
    if ((runner || statistics != nullptr) && recorder() != nullptr)
      recorder_.write(job_, calibration_.rows(), calibration_.seqlen());
    finish(exports, writers, modules);
  }

  bool measures(const formats::ExportPlan& plan) const {
    return calibration_.rows() > 0 && job::quantizes_a_linear(plan);
  }

  // With propagate_error: false, where other jobs find what this one measures. No room on the disk
  // for it is no reason to fail.
  resume::StatisticsStore* statistics_store() {
    resume::StatisticsStore* store = shared_statistics(job_,
                                               {.family = source_.family,
                                                .calibration = report_.calibration,
                                                .tokens = calibration_,
                                                .forward_dtype = report_.forward_dtype,
                                                .devices = devices_},
                                               options_.shared);
    if (store == nullptr || store->complete() || store->make_room(resume::statistics_bytes(source_.family)))
      return store;
    log_.warning("statistics are not shared: " + store->trouble());
    return nullptr;
  }

  void finish_statistics(resume::StatisticsStore& statistics, double seconds) {
    statistics.finish(source_.family, seconds);
    if (!statistics.trouble().empty())
      log_.warning("statistics are not shared: " + statistics.trouble());
  }

  // Of a pass that an earlier process has worked on.
  std::vector<record::ModuleReport> before_modules(const formats::ExportPlan& plan,
                                           const resume::PassProgress& before) const {
    return with_grids(before.rounding.modules, source_.family, plan);
  }

  void tell_what_is_done(const formats::ExportPlan& plan, const resume::PassProgress& before) {
    if (before.blocks == 0) return;
    for (const record::ModuleReport& module : before_modules(plan, before)) log_.write_row(module);
    log_.note(fmt::format("going on: {} of {} blocks are finished", before.blocks,
                          source_.family.blocks.size()));
  }

  // Until one pass has measured; later ones would see the same or other codes' errors.
  calib::ImatrixRecorder* recorder() {
    const bool wanted = !job_.calibration.save_imatrix.empty() && !recorder_.written();
    return wanted ? &recorder_ : nullptr;
  }

  void finish(const std::vector<std::size_t>& exports, Writers& writers,
              const std::vector<record::ModuleReport>& modules) {
    const TimedScope timed(report_.stages.write);
    const MemoryMeter::Scope memory(memory_, "write");
    writers_.finish(exports, writers, modules, report_.artifacts);
  }

  // On the files that were written, never the weights in memory.
  void evaluate() {
    const TimedScope timed(report_.stages.evaluate);
    const MemoryMeter::Scope memory(memory_, "evaluate");
    std::vector<std::unique_ptr<formats::ArtifactReader>> readers;
    std::vector<eval::EvalModel> candidates;
    for (const formats::ExportPlan& plan : plans_) {
      readers.push_back(formats::open_artifact(plan.request.path));
      candidates.push_back(
          {plan.request.path.filename().string(), readers.back().get(), &readers.back()->config()});
    }
    const eval::EvalModel original{"original", source_.weights.get(), &source_.family.config};
    const auto states = options_.shared ? options_.shared->reference(job_) : nullptr;
    const double spared_before = states ? states->spared_seconds() : 0;
    report_.evaluations = evaluate_texts({.settings = *job_.evaluate,
                                          .tokenizer = job_.model.path,
                                          .original = original,
                                          .artifacts = candidates,
                                          .runner = {.dtype = dtype_for(job_.evaluate->dtype),
                                                     .threads = job_.runtime.threads,
                                                     .device = execs_.forward,
                                                     .scratch = scratch_},
                                          .reference_states = states,
                                          .shared = options_.shared},
                                         log_);
    if (states && states->spared_seconds() > spared_before)
      options_.shared->took("reference", states->spared_seconds() - spared_before);
  }

  const job::Job& job_;
  const RunOptions options_;
  const Stopwatch watch_;
  resume::RunState state_;
  const double seconds_before_ = state_.progress().totals.seconds;
  RunLog log_;
  SourceModel source_;
  std::vector<formats::ExportPlan> plans_;
  std::optional<calib::Importance> importance_;
  calib::ImatrixRecorder recorder_;
  job::StageDevices devices_;
  job::StageExecs execs_;
  MemoryMeter memory_;
  forecast::MemoryPlan memory_plan_;
  std::shared_ptr<io::ScratchSpace> scratch_;
  record::Report report_;
  forecast::JobPlan plan_;  // its time is predicted anew after the first block
  FirstBlock first_block_;
  text::TokenBlocks calibration_;
  ExportWriters writers_;
};

}  // namespace

bool can_resume(const std::filesystem::path& run_dir) {
  return std::filesystem::exists(run_dir / "state" / "journal");
}

record::Report quantize_model(const job::Job& job, Observer& observer, const RunOptions& options) {
  try {
    return JobRun(job, observer, options).run();
  } catch (const Error& error) {
    const std::string saved = resume::saved_run();
    if (saved.empty()) throw;
    throw Error(error.kind(), error.code(), std::string(error.what()) + ". " + saved);
  }
}

}  // namespace calque::pipeline
