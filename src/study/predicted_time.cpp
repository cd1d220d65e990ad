#include "study/predicted_time.h"

#include <fmt/format.h>

#include <optional>
#include <string>

#include "calque/forecast/predict_time.h"
#include "calque/pipeline/open_job.h"

namespace calque::study {
namespace {

// Which runs have the same calibration text, and so the same statistics of the original model.
std::string calibration_of(const job::Job& job) {
  const text::PackingOptions& packing = job.calibration.packing;
  std::string key = fmt::format("{} {} {} {} {}", packing.n_samples, packing.seqlen, packing.seed,
                                job.runtime.forward_dtype, job.calibration.tokens.string());
  for (const text::TextSource& source : job.calibration.sources)
    key += fmt::format(" {} {}", source.path.string(), source.weight);
  return key;
}

std::string evaluation_of(const job::Job& job) {
  std::string key = fmt::format("{}", job.evaluate->seqlen);
  for (const job::EvaluationText& text : job.evaluate->named_texts())
    key += fmt::format(" {} {}", text.file().string(), *text.windows);
  return key;
}

// Adds up runs, the later ones without what an earlier one has computed for them.
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

}  // namespace

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

}  // namespace calque::study
