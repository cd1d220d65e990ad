#include "calque/study/state.h"

#include <fmt/format.h>

#include <algorithm>
#include <optional>
#include <string>

#include "calque/forecast/time.h"
#include "calque/pipeline/open_job.h"
#include "study/claims.h"

namespace calque::study {
namespace {

// A key that is equal for runs with the same calibration text, and so the same statistics of the
// original model.
std::string calibration_of(const job::Job& job) {
  const text::PackingOptions& packing = job.calibration.packing;
  std::string key =
      fmt::format("{} {} {} {} {} {}", packing.n_samples, packing.seqlen, packing.seed,
                  job.runtime.forward_dtype, job.calibration.tokens.string(),
                  static_cast<int>(job.calibration.experts));
  for (const text::TextSource& source : job.calibration.sources)
    key += fmt::format(" {} {}", source.path.string(), source.weight);
  return key;
}

std::string evaluation_of(const job::Job& job) {
  std::string key = fmt::format("{}", job.evaluate->seqlen);
  for (const job::EvaluationText& text : job.evaluate->named_texts())
    key += fmt::format(" {} {}", text.file().string(), *text.windows);
  for (const job::TaskSettings& task : job.evaluate->tasks)
    key += fmt::format(" {} {}", task.file.string(), task.limit);
  return key;
}

// Adds up the cost of runs; work that an earlier run has done for a later one counts once.
class Sum {
 public:
  explicit Sum(const config::Sharing& sharing) : sharing_(sharing) {}

  void add(const job::Job& job) {
    if (!rates_) rates_ = forecast::measure_rates(job);
    const pipeline::OpenedJob opened = pipeline::open_job(job);
    const forecast::TimePrediction run =
        forecast::predict_time(job, opened.source.family, opened.plans, *rates_);
    const record::StageSeconds& stages = run.stages;
    seconds_ += run.seconds;
    if (sharing_.tokens && !tokens_.insert(calibration_of(job)).second) seconds_ -= stages.tokenize;
    if (sharing_.statistics && !job.quantization.propagate_error &&
        !statistics_.insert(calibration_of(job)).second)
      seconds_ -= stages.forward + stages.statistics;
    if (sharing_.reference && job.evaluate && !references_.insert(evaluation_of(job)).second)
      seconds_ -= stages.evaluate / static_cast<double>(1 + job.exports.size());
  }

  double seconds() const { return seconds_; }

 private:
  const config::Sharing& sharing_;
  std::optional<forecast::MachineRates> rates_;
  std::set<std::string> tokens_, statistics_, references_;
  double seconds_ = 0;
};

// Seconds of the runs without a result, for the points in `selected` (empty: all), predicted from
// shapes at this machine's current speed; shared work counts once.
double predicted_seconds(const SweepPlan& plan, const Results& results,
                         const std::set<int>& selected) {
  Sum sum(plan.sweep.share);
  for (const PlannedPoint& planned : plan.points) {
    if (!selected.empty() && selected.count(planned.point.number) == 0) continue;
    for (const Run& run : planned.runs)
      if (!run.refusal.any() && results.find(run.hash) == results.end()) sum.add(run.job);
  }
  return sum.seconds();
}

// Size and KL divergence of an evaluated point.
struct Measured {
  int point = 0;
  double bytes = 0;
  double kl = 0;
};

std::vector<Measured> measured_points(const SweepPlan& plan, const Results& results) {
  std::vector<Measured> measured;
  for (const PlannedPoint& planned : plan.points) {
    const Fold fold(planned, results);
    if (!fold.complete() || !fold.main_text(0)) continue;
    measured.push_back(
        {planned.point.number,
         fold.mean(0, [](const RunResult&,
                         const ArtifactResult& a) { return static_cast<double>(a.file_bytes); }),
         fold.mean(0, [](const RunResult&, const ArtifactResult& a) {
           return a.texts.front().kl_mean;
         })});
  }
  return measured;
}

bool beats(const Measured& a, const Measured& b) {
  return a.bytes <= b.bytes && a.kl <= b.kl && (a.bytes < b.bytes || a.kl < b.kl);
}

}  // namespace

Results read_results(const SweepPlan& plan) {
  Results results;
  for (const PlannedPoint& planned : plan.points)
    for (const Run& run : planned.runs)
      if (auto result = read_result(plan.folder_of(run))) results[run.hash] = std::move(*result);
  return results;
}

std::vector<PointState> point_states(const SweepPlan& plan, const Results& results) {
  std::vector<PointState> states;
  const bool started = std::filesystem::exists(plan.sweep.output / "claims");
  for (const PlannedPoint& planned : plan.points) {
    const Fold fold(planned, results);
    PointState state{fold.failure() ? "failed" : fold.complete() ? "done" : "pending", ""};
    if (started && state.state == "pending") {
      const Claims claims(plan.sweep.output / "claims");
      for (const Run& run : planned.runs)
        if (const auto who = claims.holder(run.hash)) state = {"claimed", *who};
    }
    states.push_back(std::move(state));
  }
  return states;
}

Progress progress_of(const SweepPlan& plan, const Results& results, const std::set<int>& selected) {
  Progress progress;
  for (const PlannedPoint& planned : plan.points) {
    if (!selected.empty() && selected.count(planned.point.number) == 0) continue;
    for (const Run& run : planned.runs) {
      const auto found = results.find(run.hash);
      if (found == results.end()) {
        ++progress.pending;
        continue;
      }
      ++(found->second.done() ? progress.done : progress.failed);
      progress.spent_seconds += found->second.seconds;
      for (const auto& taken : found->second.shared) progress.saved_seconds += taken.seconds;
    }
  }
  if (progress.done > 0)
    progress.remaining_seconds = progress.spent_seconds / static_cast<double>(progress.done) *
                                 static_cast<double>(progress.pending);
  else if (progress.pending > 0)
    progress.remaining_seconds = predicted_seconds(plan, results, selected);
  return progress;
}

std::set<int> pareto_points(const SweepPlan& plan, const Results& results) {
  const std::vector<Measured> all = measured_points(plan, results);
  std::set<int> front;
  for (const Measured& candidate : all)
    if (std::none_of(all.begin(), all.end(),
                     [&](const Measured& other) { return beats(other, candidate); }))
      front.insert(candidate.point);
  return front;
}

std::optional<int> nearest_point(const SweepPlan& plan, const Results& results) {
  const std::vector<Measured> all = measured_points(plan, results);
  const auto nearest = std::min_element(
      all.begin(), all.end(), [](const Measured& a, const Measured& b) { return a.kl < b.kl; });
  return nearest == all.end() ? std::nullopt : std::optional(nearest->point);
}

}  // namespace calque::study
