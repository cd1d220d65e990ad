#pragma once

#include <memory>
#include <vector>

#include "calque/calib/importance.h"
#include "calque/calib/kv_peaks.h"
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

// Objects that all passes of a run share.
struct RunContext {
  const OpenedJob& opened;
  const text::TokenBlocks& calibration;
  std::shared_ptr<io::ScratchSpace> scratch;  // for activations; null: they stay in memory
  record::Observer& observer;
  record::StageSeconds& stages;
  MemoryMeter& memory;
  resume::RunFolder* folder = nullptr;  // null: nothing is saved
};

// One pass over the model: rounds every tensor of one set of grids once and gives it to every
// writer of the set.
struct Pass {
  const RunContext& run;
  const formats::ExportPlan& plan;  // one of the set's plans: they agree on the grids
  Writers& writers;
  forward::BlockRunner* runner = nullptr;  // null: nothing runs, no statistics
  // Statistics of the unquantized model: written with a runner, read without one; null: not shared.
  resume::StatisticsStore* statistics = nullptr;
  const calib::KvPeaks* kv_peaks = nullptr;    // the runner's; null: keys and values not measured
  calib::ImatrixRecorder* recorder = nullptr;  // needs a runner or statistics; null: not recorded
  std::size_t number = 0;                      // index among the job's passes
  bool is_last = true;                         // nothing but the record comes after it

  const job::Job& job() const { return run.opened.job; }
  const model::FamilySpec& family() const { return run.opened.measured; }
  const model::ModelSource& weights() const { return *run.opened.source.weights; }
  const job::StageExecs& execs() const { return run.opened.execs; }
  // 0..1; above 0 the original model runs as well (quant/upstream.h).
  double upstream_correction() const;
};

// The runner for a pass over `plan`; `kv_peaks` (may be null) sees keys and values.
std::unique_ptr<forward::BlockRunner> runner_for(
    const OpenedJob& opened, const formats::ExportPlan& plan,
    std::shared_ptr<io::ScratchSpace> scratch,
    std::shared_ptr<const calib::KvPeaks> kv_peaks = nullptr);

// Rounds everything that is not finished yet and passes it to the writers, without finishing them.
// Returns the modules in order. Error(kNumerical, "E401") if more modules fell back to RTN than the
// job allows; Error(kInput) "E307" or "E308" if the saved state of an earlier process is damaged or
// missing.
std::vector<record::ModuleReport> run_pass(const Pass& pass);

// Modules of an earlier process, with their grids taken from the plan.
std::vector<record::ModuleReport> with_grids(std::vector<record::ModuleReport> modules,
                                             const model::FamilySpec& family,
                                             const formats::ExportPlan& plan);

}  // namespace calque::pipeline
