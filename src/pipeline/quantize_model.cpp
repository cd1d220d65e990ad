#include "calque/pipeline/quantize_model.h"

#include <fmt/format.h>

#include <algorithm>
#include <memory>

#include "calque/artifact/reader.h"
#include "calque/artifact/writer.h"
#include "calque/core/error.h"
#include "calque/eval/evaluate.h"
#include "calque/io/file.h"
#include "calque/io/scratch.h"
#include "calque/model/block_runner.h"
#include "calque/pipeline/memory_plan.h"
#include "calque/quant/methods.h"
#include "calque/text/vocabulary.h"
#include "pipeline/describe_plan.h"
#include "pipeline/first_block.h"
#include "pipeline/job_tokens.h"
#include "pipeline/memory_meter.h"
#include "pipeline/pass.h"
#include "pipeline/pass_method.h"
#include "pipeline/plan_job.h"
#include "pipeline/run_log.h"
#include "pipeline/stage_devices.h"
#include "pipeline/stopwatch.h"
#include "pipeline/upstream_settings.h"
#include "pipeline/writer_inputs.h"

namespace calque::pipeline {
namespace {

constexpr double kSecondsToMeasure = 0.05;

// Activations stay in memory as far as the plan has room for them.
std::shared_ptr<io::ScratchSpace> scratch_for(const Job& job, const MemoryPlan& plan) {
  const bool files = plan.activation_file_bytes > 0;
  const std::filesystem::path& folder =
      job.runtime.offload_dir.empty() ? job.run_dir : job.runtime.offload_dir;
  return std::make_shared<io::ScratchSpace>(plan.activation_budget_bytes,
                                            files ? folder : std::filesystem::path());
}

// One job on its way: what every step needs.
class JobRun {
 public:
  JobRun(const Job& job, Observer& observer, const RunOptions& options)
      : job_(job),
        options_(options),
        log_(job.run_dir, observer),
        source_(job.model.path, job.model.allow_requantize),
        plans_(plan_exports(job, source_)),
        importance_(load_importance(job, source_.family)),
        devices_(choose_devices(job, plans_, this_machine())),
        execs_(open_devices(devices_, job.runtime.threads)),
        memory_plan_(plan_memory(job, source_.family, plans_)),
        scratch_(scratch_for(job, memory_plan_)),
        plan_(describe_plan(job, source_, plans_, importance_, memory_plan_,
                            measure_rates(job, kSecondsToMeasure))),
        first_block_(log_, job, source_.family, plans_, plan_.rates, report_.stages, plan_.time) {
    report_.job_name = job.name;
    if (!job.run_dir.empty()) io::write_file(job.run_dir / "plan.json", job_plan_json(plan_));
    report_.stage_devices = devices_;
    report_.source_bytes = source_.weights->total_bytes();
    report_.source_bits_per_weight = source_.bits_per_weight();
  }

  Report run() {
    const Stopwatch watch;
    log_.note(fmt::format("devices: {}", shown(devices_)));
    read_calibration();
    if (importance_ && !importance_->warning().empty()) log_.warning(importance_->warning());
    report_.artifacts.resize(plans_.size());
    for (const std::vector<std::size_t>& exports : group_by_grids(plans_)) write_exports(exports);
    if (recorder() != nullptr)
      log_.warning("calibration.save_imatrix: no export quantizes a linear, nothing was measured");
    if (job_.evaluate) evaluate();
    report_.seconds = watch.seconds();
    report_memory();
    report_.predicted = predicted_of(plan_);
    report_.warnings = log_.warnings();
    log_.finish(report_);
    return std::move(report_);
  }

 private:
  void report_memory() {
    report_.peak_bytes = memory_.peak_bytes();
    report_.predicted_peak_bytes = memory_plan_.peak_bytes;
    report_.activation_file_bytes = scratch_->peak_file_bytes();
    const auto measured = memory_.stages();
    for (const MemoryPlan::Stage& stage : memory_plan_.stages) {
      const auto found = measured.find(stage.stage);
      report_.stage_peaks.push_back(
          {stage.stage, stage.peak_bytes(), found == measured.end() ? 0 : found->second});
    }
  }

  void read_calibration() {
    if (!job_.calibration.given()) return;
    const TimedScope timed(report_.stages.tokenize);
    text::PackedTokens packed = calibration_tokens(job_, source_.family.config.vocab_size);
    calibration_ = std::move(packed.blocks);
    report_.calibration = std::move(packed.manifest);
    log_.note(fmt::format("calibration: {} rows of {} tokens; first ids {}", calibration_.rows(),
                          calibration_.seqlen(), fmt::join(report_.calibration.first_ids, " ")));
  }

  // Every GPU that LibTorch's operators are fast on multiplies bf16 natively.
  model::ComputeDType dtype_for(const std::string& name) const {
    const bool on_gpu = execs_.forward.starts_with("cuda");
    return name == "auto" && on_gpu ? model::ComputeDType::kBFloat16
                                    : model::compute_dtype_from(name);
  }

  // What is compared with the original's stream, or summed on another device, comes to the host.
  std::unique_ptr<model::BlockRunner> make_runner(const artifact::ExportPlan& plan) const {
    return model::make_block_runner(source_.family.config,
                                    {.dtype = dtype_for(job_.runtime.forward_dtype),
                                     .threads = job_.runtime.threads,
                                     .device = execs_.forward,
                                     .scratch = scratch_,
                                     .host_views = devices_.statistics != devices_.forward ||
                                                   upstream_correction_for(job_, plan) > 0});
  }

  // GGUF carries the tokenizer inside; a model without one is written without.
  const text::Vocabulary* vocabulary(const artifact::ExportRequest& request) {
    if (const std::string missing = missing_tokenizer(job_, request); !missing.empty())
      log_.warning(missing);
    std::optional<text::Vocabulary> loaded = vocabulary_for(job_, source_, request);
    if (!loaded) return nullptr;
    vocabularies_.push_back(std::make_unique<text::Vocabulary>(std::move(*loaded)));
    return vocabularies_.back().get();
  }

  std::string method_for(const artifact::ExportPlan& plan) const { return method_of(job_, plan); }

  std::unique_ptr<artifact::ArtifactWriter> writer_for(const artifact::ExportPlan& plan) {
    return artifact::open_writer(
        plan, {.family = source_.family,
               .source = *source_.weights,
               .model_folder = job_.model.path,
               .vocabulary = vocabulary(plan.request),
               .provenance = provenance_of(job_, source_, plan, importance_, calibration_.rows()),
               .carried = source_.is_gguf() ? &source_.metadata : nullptr,
               .pack = execs_.pack});
  }

  std::string title(const std::vector<std::size_t>& exports) const {
    std::vector<std::string> names;
    for (const std::size_t i : exports) names.push_back(plans_[i].request.path.filename().string());
    return fmt::format("quantize ({}) for {}", method_for(plans_[exports.front()]),
                       fmt::join(names, ", "));
  }

  void write_exports(const std::vector<std::size_t>& exports) {
    const artifact::ExportPlan& plan = plans_[exports.front()];
    std::vector<std::unique_ptr<artifact::ArtifactWriter>> writers;
    for (const std::size_t i : exports) {
      writers.push_back(writer_for(plans_[i]));
      if (const std::string unused = unused_scales(job_, plans_[i]); !unused.empty())
        log_.warning(unused);
    }

    log_.phase_started(title(exports), static_cast<Index>(source_.family.blocks.size()));
    std::unique_ptr<model::BlockRunner> runner;
    if (calibration_.rows() > 0 && quantizes_a_linear(plan)) {
      runner = make_runner(plan);
      report_.forward_dtype = model::name_of(dtype_for(job_.runtime.forward_dtype));
    }
    first_block_.start_pass(plan, exports.size());
    const std::vector<ModuleReport> modules =
        run_pass({.job = job_,
                  .source = source_,
                  .plan = plan,
                  .writers = writers,
                  .runner = runner.get(),
                  .calibration = &calibration_,
                  .importance = importance_ ? &*importance_ : nullptr,
                  .recorder = recorder(),
                  .execs = execs_,
                  .observer = first_block_,
                  .stages = report_.stages,
                  .memory = memory_,
                  .upstream_correction = upstream_correction_for(job_, plan),
                  .scratch = scratch_});
    if (runner && recorder() != nullptr)
      recorder_.write(job_, calibration_.rows(), calibration_.seqlen());
    finish_writers(exports, writers, modules);
  }

  // Until one pass has measured; later ones would see the same or other codes' errors.
  ImatrixRecorder* recorder() {
    const bool wanted = !job_.calibration.save_imatrix.empty() && !recorder_.written();
    return wanted ? &recorder_ : nullptr;
  }

  void finish_writers(const std::vector<std::size_t>& exports,
                      std::vector<std::unique_ptr<artifact::ArtifactWriter>>& writers,
                      const std::vector<ModuleReport>& modules) {
    const TimedScope timed(report_.stages.write);
    const MemoryMeter::Scope memory(memory_, "write");
    for (std::size_t w = 0; w < exports.size(); ++w) {
      writers[w]->finish();
      ArtifactReport& artifact = report_.artifacts[exports[w]];
      artifact.plan = plans_[exports[w]];
      artifact.modules = modules;
      artifact.bits_per_weight = artifact.plan.bits_per_weight;
      artifact.file_bytes = artifact::open_artifact(artifact.plan.request.path)->file_bytes();
    }
  }

  // On the files that were written, never the weights in memory.
  void evaluate() {
    const TimedScope timed(report_.stages.evaluate);
    const MemoryMeter::Scope memory(memory_, "evaluate");
    text::PackedTokens packed = evaluation_tokens(job_, source_.family.config.vocab_size);
    report_.evaluation = std::move(packed.manifest);

    const eval::EvalModel reference{"original", source_.weights.get(), &source_.family.config};
    std::vector<std::unique_ptr<artifact::ArtifactReader>> readers;
    std::vector<eval::EvalModel> candidates;
    for (const artifact::ExportPlan& plan : plans_) {
      readers.push_back(artifact::open_artifact(plan.request.path));
      candidates.push_back(
          {plan.request.path.filename().string(), readers.back().get(), &readers.back()->config()});
    }
    const auto steps = static_cast<Index>((source_.family.blocks.size() + 1) * (1 + plans_.size()));
    log_.phase_started("evaluate", steps);
    report_.metrics = eval::evaluate(reference, candidates, packed.blocks,
                                     {.runner = {.dtype = dtype_for(job_.evaluate->dtype),
                                                 .threads = job_.runtime.threads,
                                                 .device = execs_.forward,
                                                 .scratch = scratch_},
                                      .llamacpp_bos = bos_of(job_),
                                      .progress = [&](Index done, Index) { log_.step(done); }});
  }

  const Job& job_;
  const RunOptions options_;
  RunLog log_;
  SourceModel source_;
  std::vector<artifact::ExportPlan> plans_;
  std::optional<Importance> importance_;
  ImatrixRecorder recorder_;
  StageDevices devices_;
  StageExecs execs_;
  MemoryMeter memory_;
  MemoryPlan memory_plan_;
  std::shared_ptr<io::ScratchSpace> scratch_;
  Report report_;
  JobPlan plan_;  // its time is predicted anew after the first block
  FirstBlock first_block_;
  text::TokenBlocks calibration_;
  std::vector<std::unique_ptr<text::Vocabulary>> vocabularies_;
};

}  // namespace

Report quantize_model(const Job& job, Observer& observer, const RunOptions& options) {
  return JobRun(job, observer, options).run();
}

}  // namespace calque::pipeline
