#pragma once

#include <filesystem>
#include <fstream>

#include "calque/pipeline/observer.h"
#include "calque/pipeline/report.h"
#include "pipeline/stopwatch.h"

namespace calque::pipeline {

// Writes the run folder while passing everything on: modules.csv (a row a quantized matrix) and
// log.jsonl (an object an event), both flushed line by line so that an interrupted run leaves what
// it knew; and at the end calibration_manifest.json and metrics.json. An empty folder path writes
// nothing.
class RunLog : public Observer {
 public:
  RunLog(const std::filesystem::path& folder, Observer& next);

  void phase_started(const std::string& title, Index steps) override;
  void step(Index done) override { next_.step(done); }
  void module_done(const ModuleReport& module) override;
  void block_done(Index block, Index blocks, double seconds) override;
  void note(const std::string& line) override;
  void warning(const std::string& line) override;

  const std::vector<std::string>& warnings() const { return warnings_; }
  void finish(const Report& report);

 private:
  void log(const std::string& event, const std::string& fields);

  std::filesystem::path folder_;
  Observer& next_;
  Stopwatch watch_;
  std::string phase_;
  std::ofstream modules_csv_;
  std::ofstream log_jsonl_;
  std::vector<std::string> warnings_;
};

}  // namespace calque::pipeline
