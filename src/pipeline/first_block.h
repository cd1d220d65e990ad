#pragma once

#include <cstddef>

#include "calque/forecast/time.h"
#include "calque/pipeline/open_job.h"
#include "calque/record/observer.h"

namespace calque::pipeline {

// Forwards a pass's events, and predicts the whole job's time again when the first block is done.
// Stages that ran are corrected by their own ratio of measured to predicted time, the others
// (writing the rest, evaluating) by the ratio of the total.
class FirstBlock : public record::Observer {
 public:
  // `measured` holds the job's seconds so far and grows; `prediction` is replaced once. All must
  // outlive this object.
  FirstBlock(record::Observer& next, const OpenedJob& opened, const forecast::MachineRates& rates,
             const record::StageSeconds& measured, forecast::TimePrediction& prediction);

  // Call when a pass over `plan`, for `exports` files, starts.
  void start_pass(const formats::ExportPlan& plan, std::size_t exports);

  void phase_started(const std::string& title, Index steps) override;
  void step(Index done) override { next_.step(done); }
  void module_done(const record::ModuleReport& module) override { next_.module_done(module); }
  void block_done(Index block, Index blocks, double seconds) override;
  void seconds_left(double seconds) override { next_.seconds_left(seconds); }
  void note(const std::string& line) override { next_.note(line); }
  void warning(const std::string& line) override { next_.warning(line); }

 private:
  void predict(Index block);

  record::Observer& next_;
  const OpenedJob& opened_;
  forecast::MachineRates rates_;
  const record::StageSeconds& measured_;
  forecast::TimePrediction& prediction_;
  const formats::ExportPlan* plan_ = nullptr;
  std::size_t exports_ = 0;
  record::StageSeconds before_;
  bool done_ = false;
};

}  // namespace calque::pipeline
