// One block of the job, really run.
#include <algorithm>
#include <optional>

#include "calque/eval/evaluate.h"
#include "calque/forecast/predict_time.h"
#include "forecast/evaluation_work.h"
#include "job/job_tokens.h"
#include "forecast/memory_stages.h"
#include "pipeline/pass.h"
#include "job/pass_method.h"
#include "pipeline/plan_job.h"
#include "record/stage_seconds.h"
#include "pipeline/stopwatch.h"
#include "job/upstream_settings.h"

namespace calque::pipeline {
namespace {

// A part that is predicted to take longer is probed with fewer rows or windows.
constexpr double kProbedSeconds = 4;

// As many of `all` as are predicted to take kProbedSeconds where all take `seconds`; as many for
// each thread, so that none is idle.
Index some_of(Index all, double seconds, int threads) {
  const auto fit =
      static_cast<Index>(static_cast<double>(all) * std::min(1.0, kProbedSeconds / seconds));
  const Index for_all_threads = std::max<Index>(1, fit / threads) * threads;
  return std::min(all, for_all_threads);
}

text::TokenBlocks first_rows(const text::TokenBlocks& blocks, Index rows) {
  rows = std::min(rows, blocks.rows());
  text::TokenBlocks first;
  if (rows == 0) return first;
  first.ids_BS = Matrix<std::int32_t>::copy_of(blocks.ids_BS.view().rows(0, rows));
  first.lengths_B.assign(blocks.lengths_B.begin(), blocks.lengths_B.begin() + rows);
  return first;
}

// Only the linears of the blocks: nothing outside is rounded in a probe.
formats::ExportPlan without_outside(formats::ExportPlan plan) {
  for (formats::TensorPlan& planned : plan.tensors)
    if (!planned.in_block_linear) planned.grid.reset();
  return plan;
}

void keep_first_block(model::FamilySpec& family) {
  family.blocks.erase(family.blocks.begin() + 1, family.blocks.end());
}

class Probe {
 public:
  Probe(const job::Job& job, const forecast::MachineRates& rates)
      : job_(job),
        rates_(rates),
        source_(job.model.path, job.model.allow_requantize),
        plans_(plan_exports(job, source_)),
        whole_(record::seconds_of(forecast::job_work(job, source_.family, plans_), job, rates)),
        evaluation_(split(forecast::evaluation_work(job, source_.family, plans_))),
        importance_(calib::load_importance(job, source_.family)),
        devices_(choose_devices(job, plans_, job::this_machine())),
        execs_(open_devices(devices_, job.runtime.threads)) {
    keep_first_block(source_.family);
    threads_ = static_cast<int>(forecast::JobShapes(job, source_.family, plans_).threads);
  }

  forecast::TimePrediction run() {
    read_calibration();
    for (const std::vector<std::size_t>& exports : group_by_grids(plans_))
      run_first_block(plans_[exports.front()]);
    record::StageSeconds predicted = corrected(whole_, expected_, measured_);
    if (job_.calibration.given()) predicted.tokenize = measured_.tokenize;
    if (job_.evaluate) predicted.evaluate = evaluate();
    return prediction_of(predicted, "probe");
  }

 private:
  // The evaluation's two parts: its blocks, and its heads. Its text is read in full.
  struct Parts {
    forecast::Work blocks, heads;
  };
  static Parts split(const forecast::Work& work) {
    Parts parts{work, {}};
    for (const forecast::WorkKind kind : {forecast::WorkKind::kHeads, forecast::WorkKind::kProbabilities}) {
      parts.heads[kind] = work[kind];
      parts.blocks[kind] = 0;
    }
    parts.blocks[forecast::WorkKind::kEvaluatedBytes] = 0;
    return parts;
  }
  double evaluate_seconds(const forecast::Work& work) const {
    return record::seconds_of(work, job_, rates_).evaluate;
  }

  void read_calibration() {
    if (!job_.calibration.given()) return;
    const TimedScope timed(measured_.tokenize);
    calibration_ = calibration_tokens(job_, source_.family.config.vocab_size).blocks;
  }

  record::StageSeconds of_first_block(const formats::ExportPlan& plan, const job::Job& job) const {
    return record::seconds_of(forecast::block_work(job, source_.family, plan, source_.family.blocks.front(), 0), job,
                      rates_);
  }

  std::unique_ptr<forward::BlockRunner> runner_for(const formats::ExportPlan& plan) const {
    return forward::make_block_runner(source_.family.config,
                                    {.dtype = forward_dtype(job_.runtime.forward_dtype),
                                     .threads = job_.runtime.threads,
                                     .device = execs_.forward,
                                     .host_views = devices_.statistics != devices_.forward ||
                                                   upstream_correction_for(job_, plan) > 0});
  }

  forward::ComputeDType forward_dtype(const std::string& name) const {
    const bool on_gpu = execs_.forward.starts_with("cuda");
    return name == "auto" && on_gpu ? forward::ComputeDType::kBFloat16
                                    : forward::compute_dtype_from(name);
  }

  void run_first_block(const formats::ExportPlan& whole_plan) {
    const formats::ExportPlan plan = without_outside(whole_plan);
    const record::StageSeconds all = of_first_block(plan, job_);
    const bool runs = job_.calibration.given() && job::quantizes_a_linear(plan);
    job::Job job = job_;
    if (runs)
      job.calibration.packing.n_samples =
          some_of(calibration_.rows(), all.forward + all.statistics, threads_);
    const text::TokenBlocks rows = first_rows(calibration_, job.calibration.packing.n_samples);
    const std::unique_ptr<forward::BlockRunner> runner = runs ? runner_for(plan) : nullptr;
    std::vector<std::unique_ptr<formats::ArtifactWriter>> no_writers;
    run_pass({.job = job,
              .source = source_,
              .plan = plan,
              .writers = no_writers,
              .runner = runner.get(),
              .calibration = &rows,
              .importance = importance_ ? &*importance_ : nullptr,
              .recorder = nullptr,
              .execs = execs_,
              .observer = silent_,
              .stages = measured_,
              .memory = memory_,
              .upstream_correction = upstream_correction_for(job_, plan)});
    expected_ += of_first_block(plan, job);
  }

  // The original against itself, a few windows of the first text through one block and the head.
  double evaluate() {
    const Stopwatch reading;
    const job::EvaluationText first = job_.evaluate->named_texts().front();
    const text::TokenBlocks windows =
        evaluation_tokens(first, job_.evaluate->seqlen, job_.model.path,
                          source_.family.config.vocab_size)
            .blocks;
    const double read = reading.seconds();
    model::ModelConfig config = source_.family.config;
    config.num_layers = 1;
    job::Job job = job_;
    job.evaluate = job::EvaluationSettings{.text = {}, .tokens = {}, .texts = {first}};
    job.evaluate->seqlen = job_.evaluate->seqlen;
    const Parts whole = split(one_block_evaluation(job));
    const double all = evaluate_seconds(whole.blocks) + evaluate_seconds(whole.heads);
    job.evaluate->texts.front().windows = some_of(windows.rows(), all, threads_);
    const Parts expected = split(one_block_evaluation(job));

    const eval::EvalModel original{"original", source_.weights.get(), &config};
    const Stopwatch watch;
    double blocks = 0;
    eval::evaluate(original, {original}, first_rows(windows, *job.evaluate->texts.front().windows),
                   {.runner = {.dtype = forward_dtype(job_.evaluate->dtype),
                               .threads = job_.runtime.threads,
                               .device = execs_.forward},
                    .llamacpp_bos = bos_of(first, job_.model.path),
                    .progress = [&](Index done, Index) {
                      if (done == 2) blocks = watch.seconds();  // one for each model
                    }});
    const double heads = watch.seconds() - blocks;
    return read +
           evaluate_seconds(evaluation_.blocks) * blocks / evaluate_seconds(expected.blocks) +
           evaluate_seconds(evaluation_.heads) * heads / evaluate_seconds(expected.heads);
  }

  // Of two models with the same head.
  forecast::Work one_block_evaluation(const job::Job& job) const {
    formats::ExportPlan same;
    same.tensors.push_back({source_.family.head()});
    return forecast::evaluation_work(job, source_.family, {same});
  }

  const job::Job& job_;
  const forecast::MachineRates& rates_;
  SourceModel source_;  // its family ends after the first block
  std::vector<formats::ExportPlan> plans_;
  record::StageSeconds whole_;
  Parts evaluation_;
  std::optional<calib::Importance> importance_;
  job::StageDevices devices_;
  job::StageExecs execs_;
  int threads_ = 1;
  text::TokenBlocks calibration_;
  Observer silent_;
  MemoryMeter memory_;
  record::StageSeconds expected_, measured_;
};

}  // namespace

forecast::TimePrediction probe_time(const job::Job& job, const forecast::MachineRates& rates) {
  return Probe(job, rates).run();
}

}  // namespace calque::pipeline
