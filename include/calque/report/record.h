#pragma once

#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "calque/record/report.h"

namespace calque::report {

// What runs and sweeps leave in their folders, read back. Files of another calque may lack fields:
// what is absent stays at its default (0, empty, nullopt), what is damaged is an Error.

// A run folder: its record (metrics.json, calibration_manifest.json) and what stands beside it.
struct Run : record::Report {
  std::filesystem::path folder;
  std::string name;
  bool finished = false;  // there is metrics.json; else only the name, the job and modules so far
  // Passes over the model in the order they ran, each with its modules; exports that agree on all
  // grids share one.
  std::vector<std::vector<record::ModuleReport>> passes;
  std::string resolved_job;  // YAML text

  // The pass that made artifact `i`: known where each had its own, or all one. Null: not known.
  const std::vector<record::ModuleReport>* pass_of(std::size_t i) const;
};

// One row of results.csv.
struct SweepPoint {
  int number = 0;
  std::string hash;
  std::string status;  // "done", "failed", "pending"
  std::string error;
  std::map<std::string, std::string> cells;  // every column by its title
  std::string cell(const std::string& column) const;
  double number_in(const std::string& column) const;  // 0: empty
};

// A sweep folder.
struct Sweep {
  std::filesystem::path folder;
  std::string name;
  std::vector<std::string> swept;  // keys, by their paths
  std::vector<std::string> texts;  // the main one first
  std::vector<SweepPoint> points;
  double saved_seconds = 0;      // by sharing, as runs.csv has it; 0: not known
  std::string resolved;          // YAML text
  std::optional<Run> first_run;  // of the points that are done: versions, data, hashes
};

enum class FolderKind { kRun, kSweep };

// What `folder` is, by the files in it: a run folder, a sweep folder, or an artifact folder that
// carries its run's record (calque/metrics.json), which counts as a run. Error(kInput, "E251") if
// it is neither.
FolderKind kind_of(const std::filesystem::path& folder);

// Error(kInput, "E252") names a damaged file, the place in it, and what to do.
Run load_run(const std::filesystem::path& folder);
Sweep load_sweep(const std::filesystem::path& folder);

}  // namespace calque::report
