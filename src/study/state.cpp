#include "calque/study/state.h"

#include <algorithm>

#include "calque/study/fold.h"
#include "study/claims.h"
#include "study/predicted_time.h"

namespace calque::study {
namespace {

// Size and distance of a point that was evaluated.
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
