#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "calque/config/sweep_file.h"
#include "calque/job/job.h"

namespace calque::study {

// One setting of everything that a sweep changes, and the runs that measure it.
struct Point {
  int number = 0;             // from 1, in the order of --list
  config::Settings settings;  // of the grid, then of `paired`
  // What each run sets beside: one combination of the replicates a run; without replicates one run
  // with nothing.
  std::vector<config::Settings> replicates;
};

// The points of a sweep: every combination of the grid, its last key changing fastest; each with
// every entry of `paired`; without those that an entry of `exclude` names. Error(kConfig, "E184")
// if nothing is left, or an exclusion names a value that its key never takes.
std::vector<Point> expand(const config::SweepFile& sweep);

// What went wrong with a run.
struct Failure {
  std::string code;  // "E131"; "": none
  std::string message;
  bool any() const { return !message.empty(); }
};

// One job of a sweep: a point, or one replicate of it.
struct Run {
  int point = 0;
  int replicate = 0;          // from 0
  config::Settings settings;  // the replicate's own
  job::Job job;               // in its folder of the sweep
  // Of the resolved job without paths of output, and of the files it reads (path, size, time of
  // change): what decides whether a run is done already.
  std::string hash;
  Failure refusal;                 // with on_invalid: skip, why it cannot work
  std::uint64_t tensor_bytes = 0;  // predicted, exact; of the first export
  double bits_per_weight = 0;
  std::uint64_t statistics_bytes = 0;  // that statistics of its model take on the disk
};

struct PlannedPoint {
  Point point;
  std::vector<Run> runs;
};

struct SweepPlan {
  config::SweepFile sweep;  // sharing as it will be done
  std::vector<PlannedPoint> points;
  std::uint64_t statistics_bytes = 0;  // of disk that shared statistics take at most; 0: none
  std::vector<std::string> notes;      // what is not shared, and why

  std::filesystem::path folder_of(const Run& run) const {
    return sweep.output / "points" / run.hash;
  }
  std::size_t run_count() const;
};

// Loads and plans the job of every point before anything runs. Error(kConfig): E185 two points are
// the same job; E186 points that cannot work, all of them with their reasons (unless on_invalid:
// skip); E187 statistics are to be shared and propagate_error is true. Reads headers only.
SweepPlan plan_sweep(const config::SweepFile& sweep);

// 16 hex digits; see Run::hash.
std::string hash_of(const job::Job& job);

}  // namespace calque::study
