#pragma once

#include <string>

#include "calque/study/run_sweep.h"

namespace calque::cli {

// For --list: every point with its settings, the size that is predicted, and where it stands.
std::string points_table(const study::SweepPlan& plan, const study::Results& results,
                         const study::Selection& selection);

// At the end: what was measured, a line a point; * marks those that no other beats in both bytes
// and KL divergence.
std::string sweep_table(const study::SweepPlan& plan, const study::Results& results,
                        const study::Selection& selection);

// Points with their settings, predictions, state and results, and the sweep's progress.
std::string sweep_json(const study::SweepPlan& plan, const study::Results& results,
                       const study::Selection& selection);

// "bits 4, group_size 64"
std::string settings_text(const config::Settings& settings);

}  // namespace calque::cli
