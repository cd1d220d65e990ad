#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "calque/config/sweep_file.h"
#include "calque/job/job.h"

namespace calque::study {

// One combination of the settings that a sweep varies, with the runs that measure it.
struct Point {
  int number = 0;             // from 1, in the order of --list
  config::Settings settings;  // first those of the grid, then those of `paired`
  // Additional settings of each run: one combination of the replicates per run. Without replicates,
  // one run with none.
  std::vector<config::Settings> replicates;
};

// The points of a sweep: every combination of the grid, its last key changing fastest, each with
// every entry of `paired`, minus those that an entry of `exclude` matches. Error(kConfig, "E184")
// if nothing is left, or if an exclusion names a value that its key never takes.
std::vector<Point> expand(const config::SweepFile& sweep);

// The reason that a run failed.
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
  job::Job job;               // writes into its own folder of the sweep
  // Hash of the resolved job without output paths, and of the files it reads (path, size,
  // modification time). It decides if a run is already done.
  std::string hash;
  Failure refusal;                 // with on_invalid: skip, the reason it cannot work
  std::uint64_t tensor_bytes = 0;  // predicted, exact; first export
  double bits_per_weight = 0;
  std::uint64_t statistics_bytes = 0;  // size of its model's statistics on disk
};

struct PlannedPoint {
  Point point;
  std::vector<Run> runs;
};

struct SweepPlan {
  config::SweepFile sweep;  // with the sharing that will really happen
  std::vector<PlannedPoint> points;
  std::uint64_t statistics_bytes = 0;  // maximum disk space of shared statistics; 0: none
  std::vector<std::string> notes;      // shares that are not possible, with reasons

  std::filesystem::path folder_of(const Run& run) const {
    return sweep.output / "points" / run.hash;
  }
  std::size_t run_count() const;
};

// Loads and plans the job of every point before anything runs. Error(kConfig): E185 two points are
// the same job; E186 points that cannot work, all with their reasons (unless on_invalid: skip);
// E187 statistics are to be shared although propagate_error is true. Reads headers only.
SweepPlan plan_sweep(const config::SweepFile& sweep);

// The value of Run::hash for a job: 16 hex digits.
std::string hash_of(const job::Job& job);

}  // namespace calque::study
