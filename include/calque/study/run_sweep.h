#pragma once

#include <cstddef>
#include <set>
#include <string>

#include "calque/record/observer.h"
#include "calque/study/state.h"

namespace calque::study {

// The points of a sweep that this process should run.
struct Selection {
  std::set<int> only;  // numbers; empty: all
  int shard = 0;       // index of one of `shards` equal parts: every shards-th point
  int shards = 1;

  bool has(int point) const {
    return (only.empty() || only.count(point) > 0) && (point - 1) % shards == shard;
  }
};

// Parses "3,7-9" as point numbers of a sweep with `points` points. Error(kConfig, "E192") for
// anything else.
std::set<int> parse_points(const std::string& text, std::size_t points);
// Parses "2/16" into shard and shards. Error(kConfig, "E192").
void parse_shard(const std::string& text, Selection& selection);

// Receives a sweep's progress in addition to that of its jobs.
class SweepObserver : public record::Observer {
 public:
  // `position` (from 1) and `count` refer to the runs that this process may do.
  virtual void run_started(const PlannedPoint& /*point*/, const Run& /*run*/,
                           std::size_t /*position*/, std::size_t /*count*/) {}
  virtual void run_ended(const RunResult& /*result*/) {}
};

// Does every selected run that is not done and that no other process works on, in order. A run that
// failed before this process began is tried once more. After each run, rebuilds results.csv and
// runs.csv from the results of all processes and removes artifacts that are not to be kept. A
// failed run is recorded and the sweep continues (on_failure: stop ends it); it never throws for
// that. Error(kResource) if the sweep's own folder cannot be written. Returns the results of all
// points, including those of other processes.
Results run_sweep(const SweepPlan& plan, const Selection& selection, SweepObserver& observer);

}  // namespace calque::study
