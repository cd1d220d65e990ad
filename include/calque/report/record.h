#pragma once

#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "calque/record/report.h"

namespace calque::report {

// Runs and sweeps as read back from their folders. Files of another version may lack fields; these
// keep their defaults (0, empty, nullopt). Damaged files are an Error.

// A run folder: its record (metrics.json, calibration_manifest.json) and the files next to it.
struct Run : record::Report {
  std::filesystem::path folder;
  std::string name;
  bool finished = false;  // metrics.json exists; else only name, job and modules so far are known
  // Passes over the model in the order they ran, each with its modules. Exports with the same grids
  // share a pass.
  std::vector<std::vector<record::ModuleReport>> passes;
  std::string resolved_job;  // YAML text

  // The pass that made artifact `i`: known if each had its own, or all shared one. Null: unknown.
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
  double number_in(const std::string& column) const;  // 0: empty cell
};

// A sweep folder.
struct Sweep {
  std::filesystem::path folder;
  std::string name;
  std::vector<std::string> swept;  // keys by their full paths
  std::vector<std::string> texts;  // names; the main text first
  std::vector<std::string> tasks;  // names
  std::vector<SweepPoint> points;
  double saved_seconds = 0;      // seconds saved by sharing, from runs.csv; 0: unknown
  std::string resolved;          // YAML text
  std::optional<Run> first_run;  // first point that is done, for versions, data and hashes
};

enum class FolderKind { kRun, kSweep };

// The kind of `folder`, judged by its files: a run folder, a sweep folder, or an artifact folder
// with its run's record (calque/metrics.json), which counts as a run. Error(kInput, "E251") if it
// is neither.
FolderKind kind_of(const std::filesystem::path& folder);

// Error(kInput, "E252") names a damaged file, the place in it, and the remedy.
Run load_run(const std::filesystem::path& folder);
Sweep load_sweep(const std::filesystem::path& folder);

}  // namespace calque::report
