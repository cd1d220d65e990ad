#pragma once

#include <cstddef>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "calque/study/run_result.h"
#include "calque/study/sweep_plan.h"

namespace calque::study {

// What is there of a sweep: results of the runs that have ended, by hash.
using Results = std::map<std::string, RunResult>;
Results read_results(const SweepPlan& plan);

// Where a point stands: "done", "failed", "claimed" (somebody works on it), "pending".
struct PointState {
  std::string state;
  std::string who;  // of a claimed one: "host, process 123"
};
std::vector<PointState> point_states(const SweepPlan& plan, const Results& results);

struct Progress {
  std::size_t done = 0;  // runs
  std::size_t failed = 0;
  std::size_t pending = 0;
  double spent_seconds = 0;  // of those that have ended
  // What they would have taken longer without sharing: for each piece of work that was taken over,
  // what it took when it was done first.
  double saved_seconds = 0;
  // Of what is still to do: from the mean of what is done; before that counted from shapes
  // (pipeline/predict_time.h). nullopt: nothing is left.
  std::optional<double> remaining_seconds;
};
// Of the points that `selected` has; empty: all.
Progress progress_of(const SweepPlan& plan, const Results& results,
                     const std::set<int>& selected = {});

// Points whose first artifact no other point beats in both bytes on disk and KL divergence (mean of
// its replicates), by number. Only points that are done and were evaluated.
std::set<int> pareto_points(const SweepPlan& plan, const Results& results);
// The one with the lowest KL divergence; nullopt: none was evaluated.
std::optional<int> nearest_point(const SweepPlan& plan, const Results& results);

}  // namespace calque::study
