#pragma once

#include <cstddef>
#include <set>
#include <string>

#include "calque/record/observer.h"
#include "calque/study/state.h"

namespace calque::study {

// Which points of a sweep this process is to do.
struct Selection {
  std::set<int> only;  // numbers; empty: all
  int shard = 0;       // of `shards` equal parts, from 0: every shards-th point
  int shards = 1;

  bool has(int point) const {
    return (only.empty() || only.count(point) > 0) && (point - 1) % shards == shard;
  }
};

// "3,7-9" as numbers of a sweep with `points` points. Error(kConfig, "E192") for anything else.
std::set<int> parse_points(const std::string& text, std::size_t points);
// "2/16" into shard and shards. Error(kConfig, "E192").
void parse_shard(const std::string& text, Selection& selection);

// What a sweep tells beside what its jobs tell.
class SweepObserver : public record::Observer {
 public:
  // `position` of `count`, from 1: among the runs that this process may do.
  virtual void run_started(const PlannedPoint& /*point*/, const Run& /*run*/,
                           std::size_t /*position*/, std::size_t /*count*/) {}
  virtual void run_ended(const RunResult& /*result*/) {}
};

// Does every selected run that is not done and that no other process works on, in order; a run that
// failed before this process began is tried once more. After each, results.csv and runs.csv are
// rebuilt from the results of all processes, and artifacts that are not to be kept are removed. A
// run that fails is recorded and the sweep goes on (on_failure: stop: ends). Never throws because
// of a run that failed; Error(kResource) if the sweep's own folder cannot be written. Returns the
// results of all points, whoever did them.
Results run_sweep(const SweepPlan& plan, const Selection& selection, SweepObserver& observer);

}  // namespace calque::study
