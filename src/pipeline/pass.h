#pragma once

#include <memory>
#include <vector>

#include "calque/calib/importance.h"
#include "calque/formats/plan.h"
#include "calque/forward/block_runner.h"
#include "calque/io/scratch.h"
#include "calque/pipeline/open_job.h"
#include "calque/record/observer.h"
#include "calque/record/report.h"
#include "calque/resume/run_folder.h"
#include "calque/resume/statistics_store.h"
#include "calque/text/corpus.h"
#include "pipeline/memory_meter.h"
#include "pipeline/outputs.h"

namespace calque::pipeline {

// What all passes of a run work with.
struct RunContext {
  const OpenedJob& opened;
  const text::TokenBlocks& calibration;
  std::shared_ptr<io::ScratchSpace> scratch;  // for activations; null: they are in memory
  record::Observer& observer;
  record::StageSeconds& stages;
  MemoryMeter& memory;
  resume::RunFolder* folder = nullptr;  // null: nothing is saved
};

// One pass over the model: every tensor of one set of grids is rounded once and given to every
// writer of the set.
struct Pass {
  const RunContext& run;
  const formats::ExportPlan& plan;  // any of the set: they agree on the grids
  Writers& writers;
  forward::BlockRunner* runner = nullptr;  // null: nothing is run, no statistics
  // Of the unquantized model: filled with a runner, read without one; null: not shared.
  resume::StatisticsStore* statistics = nullptr;
  calib::ImatrixRecorder* recorder = nullptr;  // with a runner or statistics; null: nothing is kept
  std::size_t number = 0;                      // of the job's passes

  const job::Job& job() const { return run.opened.job; }
  const model::FamilySpec& family() const { return run.opened.source.family; }
  const model::ModelSource& weights() const { return *run.opened.source.weights; }
  const job::StageExecs& execs() const { return run.opened.execs; }
  // 0..1; > 0: the original model runs beside (quant/upstream.h).
  double upstream_correction() const;
};

// The forward pass of a pass over `plan`.
std::unique_ptr<forward::BlockRunner> runner_for(const OpenedJob& opened,
                                                 const formats::ExportPlan& plan,
                                                 std::shared_ptr<io::ScratchSpace> scratch);

// Rounds everything that is not finished yet and hands it to the writers (without finishing them).
// Returns the modules in the order they were done. Error(kNumerical, "E401") when more modules fell
// back to RTN than the job allows; Error(kInput): "E307", "E308" where what an earlier process
// saved is damaged or gone.
std::vector<record::ModuleReport> run_pass(const Pass& pass);

// Modules that an earlier process has done, with the grids that the plan gives them.
std::vector<record::ModuleReport> with_grids(std::vector<record::ModuleReport> modules,
                                             const model::FamilySpec& family,
                                             const formats::ExportPlan& plan);

}  // namespace calque::pipeline
