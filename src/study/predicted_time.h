#pragma once

#include <set>

#include "calque/study/state.h"

namespace calque::study {

// Seconds of the runs without a result, of the points that `selected` has (empty: all), counted
// from shapes at what this machine does now (pipeline/predict_time.h); what runs share counts once.
double predicted_seconds(const SweepPlan& plan, const Results& results,
                         const std::set<int>& selected);

}  // namespace calque::study
