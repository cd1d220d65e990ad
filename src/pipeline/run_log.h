#pragma once

#include <filesystem>
#include <fstream>

#include "calque/core/stopwatch.h"
#include "calque/record/observer.h"
#include "calque/record/report.h"
#include "calque/resume/progress.h"

namespace calque::pipeline {

// Writes the run folder while passing everything on: modules.csv (a row a quantized matrix) and
// log.jsonl (an object an event), both flushed line by line so that an interrupted run leaves what
// it knew; and at the end calibration_manifest.json and metrics.json. An empty folder path writes
// nothing. A disk that is full is Error(kResource, "E302").
class RunLog : public record::Observer {
 public:
  // `before`: what an earlier process has done. Its lines of log.jsonl stay, later ones go; the
  // rows of modules.csv are to be given again.
  RunLog(const std::filesystem::path& folder, record::Observer& next,
         const resume::RunProgress& before);

  void phase_started(const std::string& title, Index steps) override;
  void step(Index done) override { next_.step(done); }
  void module_done(const record::ModuleReport& module) override;
  void block_done(Index block, Index blocks, double seconds) override;
  void note(const std::string& line) override;
  void warning(const std::string& line) override;

  const std::vector<std::string>& warnings() const { return warnings_; }
  std::uint64_t log_bytes();  // of log.jsonl
  // Of a module that an earlier process has done.
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
