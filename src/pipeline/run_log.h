#pragma once

#include <filesystem>
#include <fstream>

#include "calque/core/stopwatch.h"
#include "calque/record/observer.h"
#include "calque/record/report.h"
#include "calque/resume/progress.h"

namespace calque::pipeline {

// Writes the run folder while forwarding all events: modules.csv (one row per quantized matrix) and
// log.jsonl (one object per event), flushed line by line so that an interrupted run keeps its
// record; calibration_manifest.json and metrics.json at the end. Writes nothing if the folder is
// empty. Error(kResource, "E302") if the disk is full.
class RunLog : public record::Observer {
 public:
  // `before` is an earlier process's work: its lines of log.jsonl stay, later lines are cut off;
  // the rows of modules.csv must be written again with write_row.
  RunLog(const std::filesystem::path& folder, record::Observer& next,
         const resume::RunProgress& before);

  void phase_started(const std::string& title, Index steps) override;
  void step(Index done) override { next_.step(done); }
  void module_done(const record::ModuleReport& module) override;
  void block_done(Index block, Index blocks, double seconds) override;
  void seconds_left(double seconds) override { next_.seconds_left(seconds); }
  void note(const std::string& line) override;
  void warning(const std::string& line) override;

  const std::vector<std::string>& warnings() const { return warnings_; }
  std::uint64_t log_bytes();  // current length of log.jsonl
  // Writes the row of a module from an earlier process.
  void write_row(const record::ModuleReport& module);
  void finish(const record::Report& report);

 private:
  void check(const std::ofstream& stream, const char* name) const;
  void log(const std::string& event, const std::string& fields);

  std::filesystem::path folder_;
  record::Observer& next_;
  Stopwatch watch_;
  double seconds_before_;
  std::string phase_;
  std::ofstream modules_csv_;
  std::ofstream log_jsonl_;
  std::vector<std::string> warnings_;
};

}  // namespace calque::pipeline
