#include "calque/pipeline/forecast_job.h"

#include <algorithm>
#include <utility>

#include "calque/core/parallel.h"
#include "calque/core/stopwatch.h"
#include "calque/eval/evaluate.h"
#include "calque/forecast/time.h"
#include "calque/forecast/work.h"
#include "calque/formats/planned_files.h"
#include "calque/job/passes.h"
#include "pipeline/pass.h"

namespace calque::pipeline {
namespace {

// Limit for each part of a probe, in seconds; longer parts use fewer rows or windows.
constexpr double kProbedSeconds = 4;

// The number out of `all` that is predicted to take kProbedSeconds, if all take `seconds`; a
// multiple of the number of threads, so that none is idle.
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
  if (!blocks.next_B.empty())
    first.next_B.assign(blocks.next_B.begin(), blocks.next_B.begin() + rows);
  return first;
}

// Keeps only the linears of the blocks: a probe rounds nothing outside.
formats::ExportPlan without_outside(formats::ExportPlan plan) {
  for (formats::TensorPlan& planned : plan.tensors)
    if (!planned.in_block_linear) planned.grid.reset();
  return plan;
}

class Probe {
 public:
  Probe(OpenedJob opened, const forecast::MachineRates& rates)
      : opened_(std::move(opened)),
        rates_(rates),
        whole_(
            forecast::seconds_of(forecast::job_work(job(), family(), opened_.plans), job(), rates)),
        evaluation_(split(forecast::evaluation_work(job(), family(), opened_.plans))) {
    for (model::FamilySpec* family : {&opened_.source.family, &opened_.measured})
      family->blocks.erase(family->blocks.begin() + 1, family->blocks.end());
    threads_ = usable_threads(job().runtime.threads);
  }

  forecast::TimePrediction run() {
    read_calibration();
    for (const std::vector<std::size_t>& exports : job::group_by_grids(opened_.plans))
      run_first_block(opened_.plans[exports.front()]);
    record::StageSeconds predicted = forecast::corrected(whole_, expected_, measured_);
    if (job().calibration.given()) predicted.tokenize = measured_.tokenize;
    if (job().evaluate && !job().evaluate->texts.empty()) predicted.evaluate = evaluate();
    return forecast::prediction_of(predicted, "probe");
  }

 private:
  // The work of an evaluation's two parts, blocks and heads. Its text is read in full.
  struct Parts {
    forecast::Work blocks, heads;
  };
  static Parts split(const forecast::Work& work) {
    Parts parts{work, {}};
    for (const forecast::WorkKind kind :
         {forecast::WorkKind::kHeads, forecast::WorkKind::kProbabilities}) {
      parts.heads[kind] = work[kind];
      parts.blocks[kind] = 0;
    }
    parts.blocks[forecast::WorkKind::kEvaluatedBytes] = 0;
    return parts;
  }
  double evaluate_seconds(const forecast::Work& work) const {
    return forecast::seconds_of(work, job(), rates_).evaluate;
  }

  void read_calibration() {
    if (!job().calibration.given()) return;
    const TimedScope timed(measured_.tokenize);
    calibration_ = opened_.tokens.calibration(job().calibration, family().config.vocab_size).blocks;
  }

  record::StageSeconds of_first_block(const formats::ExportPlan& plan, const job::Job& part) const {
    return forecast::seconds_of(
        forecast::block_work(part, opened_.measured, plan, opened_.measured.blocks.front(), 0),
        part, rates_);
  }

  void run_first_block(const formats::ExportPlan& whole_plan) {
    const formats::ExportPlan plan = without_outside(whole_plan);
    const record::StageSeconds all = of_first_block(plan, job());
    const bool runs = job().calibration.given() && job::quantizes_a_linear(plan);
    job::Job part = job();
    if (runs)
      part.calibration.packing.n_samples =
          some_of(calibration_.rows(), all.forward + all.statistics, threads_);
    const text::TokenBlocks rows = first_rows(calibration_, part.calibration.packing.n_samples);
    const std::unique_ptr<forward::BlockRunner> runner =
        runs ? runner_for(opened_, plan, nullptr) : nullptr;
    Writers no_writers;
    const RunContext run{.opened = opened_,
                         .calibration = rows,
                         .observer = silent_,
                         .stages = measured_,
                         .memory = memory_};
    run_pass({.run = run, .plan = plan, .writers = no_writers, .runner = runner.get()});
    expected_ += of_first_block(plan, part);
  }

  // Evaluates the original against itself: a few windows of the first text, one block and the head.
  double evaluate() {
    const Stopwatch reading;
    const job::EvaluationText first = job().evaluate->named_texts().front();
    const std::optional<bool> add_bos = job().evaluate->add_bos;
    const text::TokenBlocks windows =
        opened_.tokens.evaluation(first, job().evaluate->seqlen, add_bos, family().config).blocks;
    const double read = reading.seconds();
    model::ModelConfig config = opened_.source.family.config;
    config.num_layers = 1;
    job::Job part = job();
    part.evaluate = job::EvaluationSettings{.texts = {first}, .tasks = {}};
    part.evaluate->seqlen = job().evaluate->seqlen;
    const Parts whole = split(one_block_evaluation(part));
    const double all = evaluate_seconds(whole.blocks) + evaluate_seconds(whole.heads);
    part.evaluate->texts.front().windows = some_of(windows.rows(), all, threads_);
    const Parts expected = split(one_block_evaluation(part));

    const eval::EvalModel original{"original", opened_.source.weights.get(), &config};
    const Stopwatch watch;
    double blocks = 0;
    eval::evaluate(
        original, {original}, first_rows(windows, *part.evaluate->texts.front().windows),
        {.runner = {.dtype = job::forward_dtype(job().evaluate->dtype, opened_.execs.forward),
                    .threads = job().runtime.threads,
                    .device = opened_.execs.forward},
         .first_position =
             eval::first_scored(opened_.tokens.prefix(first, add_bos, family().config).size()),
         .progress = [&](Index done, Index) {
           if (done == 2) blocks = watch.seconds();  // one for each model
         }});
    const double heads = watch.seconds() - blocks;
    return read +
           evaluate_seconds(evaluation_.blocks) * blocks / evaluate_seconds(expected.blocks) +
           evaluate_seconds(evaluation_.heads) * heads / evaluate_seconds(expected.heads);
  }

  // Work for two models with the same head.
  forecast::Work one_block_evaluation(const job::Job& part) const {
    formats::ExportPlan same;
    same.tensors.push_back({opened_.source.family.head()});
    return forecast::evaluation_work(part, family(), {same});
  }

  const job::Job& job() const { return opened_.job; }
  const model::FamilySpec& family() const { return opened_.source.family; }

  OpenedJob opened_;  // its family ends after the first block
  const forecast::MachineRates& rates_;
  record::StageSeconds whole_;
  Parts evaluation_;
  int threads_ = 1;
  text::TokenBlocks calibration_;
  record::Observer silent_;
  MemoryMeter memory_;
  record::StageSeconds expected_, measured_;
};

std::vector<std::vector<formats::PlannedFile>> planned_files(const OpenedJob& opened) {
  const job::CalibrationSettings& calibration = opened.job.calibration;
  const Index rows = calibration.given() ? calibration.packing.n_samples : 0;
  std::vector<std::vector<formats::PlannedFile>> files;
  for (const formats::ExportPlan& plan : opened.plans)
    files.push_back(formats::planned_files(plan, opened.writer_inputs(plan, rows)));
  return files;
}

// The measurement that comes before a job with a target size: one pass over some rows, a rounding
// for every option, and trials that begin at their block, so that they run half of the model.
record::StageSeconds allocation_seconds(const OpenedJob& opened,
                                        const forecast::MachineRates& rates) {
  const job::AllocationSettings& settings = opened.allocation;
  job::Job job = opened.job;
  const Index rows = job.calibration.packing.n_samples;
  job.calibration.packing.n_samples = std::min<Index>(settings.samples, rows);
  job.quantization.upstream_correction = 0;
  job.quantization.refine_passes = 0;
  job.quantization.options.rounds = 1;
  job.evaluate.reset();
  record::StageSeconds total;
  for (const formats::ExportPlan& plan : opened.sizes->plans_O) {
    const record::StageSeconds one =
        forecast::seconds_of(forecast::job_work(job, opened.measured, {plan}), job, rates);
    total.quantize += one.quantize;
    total.load = one.load;
    total.forward = one.forward;
    total.statistics = one.statistics;
  }
  if (settings.sensitivity != job::AllocationSettings::Sensitivity::kMeasured) return total;
  const auto windows = static_cast<double>(std::min<Index>(settings.windows, rows));
  const auto parts = static_cast<double>(opened.sizes->parts.size());
  total.evaluate = (parts / 2 + 1) * total.forward * windows /
                   static_cast<double>(job.calibration.packing.n_samples);
  return total;
}

}  // namespace

forecast::Forecast forecast_job(const OpenedJob& opened, const forecast::MachineRates& rates,
                                bool every_module) {
  forecast::Forecast forecast = forecast::forecast_of(
      {.job = opened.job,
       .family = opened.source.family,
       .plans = opened.plans,
       .devices = opened.devices,
       .memory = opened.memory,
       .rates = rates,
       .files = planned_files(opened),
       .importance_warning = opened.importance ? opened.importance->warning() : "",
       .remarks = opened.remarks(),
       .every_module = every_module});
  if (opened.sizes) {
    const record::StageSeconds before = allocation_seconds(opened, rates);
    forecast.time.stages += before;
    forecast.time.seconds += sum(before);
  }
  return forecast;
}

forecast::TimePrediction probe_time(OpenedJob opened, const forecast::MachineRates& rates) {
  return Probe(std::move(opened), rates).run();
}

forecast::Forecast make_job_plan(const job::Job& job, const PlanOptions& options) {
  OpenedJob opened = open_job(job);
  forecast::Forecast plan = forecast_job(
      opened, forecast::measure_rates(job, options.seconds_to_measure), options.every_module);
  if (options.probe) plan.time = probe_time(std::move(opened), plan.rates);
  return plan;
}

}  // namespace calque::pipeline
