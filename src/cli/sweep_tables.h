#pragma once

#include <string>

#include "calque/study/run_sweep.h"

namespace calque::cli {

// The output of --list: every point with its settings, predicted size and state.
std::string points_table(const study::SweepPlan& plan, const study::Results& results,
                         const study::Selection& selection);

// The measured results at the end, one line per point; * marks points that no other beats in both
// bytes and KL divergence.
std::string sweep_table(const study::SweepPlan& plan, const study::Results& results,
                        const study::Selection& selection);

// Points with their settings, predictions, state and results, and the sweep's progress.
std::string sweep_json(const study::SweepPlan& plan, const study::Results& results,
                       const study::Selection& selection);

// "bits 4, group_size 64"
std::string settings_text(const config::Settings& settings);

}  // namespace calque::cli
