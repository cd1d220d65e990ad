#pragma once

#include <memory>
#include <vector>

#include "calque/formats/plan.h"
#include "calque/formats/writer.h"
#include "calque/io/scratch.h"
#include "calque/forward/block_runner.h"
#include "calque/job/job.h"
#include "calque/pipeline/observer.h"
#include "calque/record/report.h"
#include "calque/quant/rounder.h"
#include "calque/text/corpus.h"
#include "calib/importance.h"
#include "pipeline/memory_meter.h"
#include "pipeline/plan_job.h"
#include "job/stage_devices.h"
#include "resume/statistics_store.h"

namespace calque::resume {
class RunState;
}
namespace calque::pipeline {


// One pass over the model: every tensor of one set of grids is rounded once and given to every
// writer of the set.
struct Pass {
  const job::Job& job;
  const SourceModel& source;
  const formats::ExportPlan& plan;  // any of the set: they agree on the grids
  std::vector<std::unique_ptr<formats::ArtifactWriter>>& writers;
  forward::BlockRunner* runner = nullptr;            // null: nothing is run, no statistics
  const text::TokenBlocks* calibration = nullptr;  // with a runner
  const calib::Importance* importance = nullptr;          // without a runner; null: none
  calib::ImatrixRecorder* recorder = nullptr;  // with a runner or statistics; null: nothing is kept
  // Of the unquantized model: filled with a runner, read without one; null: not shared.
  resume::StatisticsStore* statistics = nullptr;
  const job::StageExecs& execs;
  Observer& observer;
  record::StageSeconds& stages;
  MemoryMeter& memory;
  double upstream_correction = 0;  // 0..1; > 0: the original model runs beside (quant/upstream.h)
  std::shared_ptr<io::ScratchSpace> scratch;  // the runner's; null: activations are in memory
  resume::RunState* state = nullptr;                  // null: nothing is saved
  std::size_t number = 0;                     // of the job's passes
};

// Rounds everything that is not finished yet and hands it to the writers (without finishing them).
// Returns the modules in the order they were done. Error(kNumerical, "E401") when more modules fell
// back to RTN than the job allows.
std::vector<record::ModuleReport> run_pass(const Pass& pass);

}  // namespace calque::pipeline
