#pragma once

#include <cmath>
#include <cstddef>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "calque/study/run_result.h"
#include "calque/study/sweep_plan.h"

namespace calque::study {

// The results of the runs that have ended, by hash.
using Results = std::map<std::string, RunResult>;
Results read_results(const SweepPlan& plan);

// State of a point: "done", "failed", "claimed" (a process works on it), "pending".
struct PointState {
  std::string state;
  std::string who;  // holder of a claimed point: "host, process 123"
};
std::vector<PointState> point_states(const SweepPlan& plan, const Results& results);

struct Progress {
  std::size_t done = 0;  // runs
  std::size_t failed = 0;
  std::size_t pending = 0;
  double spent_seconds = 0;  // sum over the runs that have ended
  // Seconds saved by sharing: for each piece of work taken over, the time it took originally.
  double saved_seconds = 0;
  // Estimate for the remaining runs: from the mean of the finished ones, before that from shapes
  // (forecast/time.h). nullopt: nothing is left.
  std::optional<double> remaining_seconds;
};
// Progress over the points in `selected`; empty: all.
Progress progress_of(const SweepPlan& plan, const Results& results,
                     const std::set<int>& selected = {});

// Numbers of the points whose first artifact no other point beats in both bytes on disk and KL
// divergence (mean over its replicates). Only points that are done and were evaluated.
std::set<int> pareto_points(const SweepPlan& plan, const Results& results);
// The point with the lowest KL divergence; nullopt: none was evaluated.
std::optional<int> nearest_point(const SweepPlan& plan, const Results& results);

// The replicates of one point, combined.
class Fold {
 public:
  Fold(const PlannedPoint& planned, const Results& results) {
    for (const Run& run : planned.runs) {
      const auto found = results.find(run.hash);
      if (found == results.end())
        ++missing_;
      else if (found->second.done())
        done_.push_back(&found->second);
      else if (!failure_)
        failure_ = &found->second.failure;
    }
  }

  // Every replicate is done.
  bool complete() const { return missing_ == 0 && failure_ == nullptr; }
  const Failure* failure() const { return failure_; }  // first failure; null: none
  const std::vector<const RunResult*>& done() const { return done_; }
  const RunResult& first() const { return *done_.front(); }

  // The first replicate's result for the artifact on the main text; null: not evaluated.
  const TextResult* main_text(std::size_t artifact) const {
    if (done_.empty() || artifact >= first().artifacts.size()) return nullptr;
    const std::vector<TextResult>& texts = first().artifacts[artifact].texts;
    return texts.empty() ? nullptr : &texts.front();
  }

  // Mean over the finished replicates; there must be at least one.
  template <typename Get>
  double mean(std::size_t artifact, const Get& get) const {
    double sum = 0;
    for (const RunResult* run : done_) sum += get(*run, run->artifacts.at(artifact));
    return sum / static_cast<double>(done_.size());
  }
  // Sample standard deviation (n - 1); 0 for fewer than two replicates.
  template <typename Get>
  double deviation(std::size_t artifact, const Get& get) const {
    if (done_.size() < 2) return 0;
    const double center = mean(artifact, get);
    double squares = 0;
    for (const RunResult* run : done_)
      squares += std::pow(get(*run, run->artifacts.at(artifact)) - center, 2);
    return std::sqrt(squares / static_cast<double>(done_.size() - 1));
  }

 private:
  std::vector<const RunResult*> done_;
  const Failure* failure_ = nullptr;
  std::size_t missing_ = 0;
};

}  // namespace calque::study
