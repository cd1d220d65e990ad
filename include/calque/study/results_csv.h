#pragma once

#include <string>

#include "calque/study/state.h"

namespace calque::study {

// results.csv: one row per point, with the means over its replicates (kl_mean_sd: their standard
// deviation; peak_bytes: the largest). The columns are the same throughout a sweep. Further exports
// of a point follow with the same number and their name in `type`. RFC 4180; bytes are integers,
// other numbers have six digits, unknown values are empty.
std::string results_csv(const SweepPlan& plan, const Results& results);

// runs.csv: one row per run with its time and memory and its first artifact's numbers. results.csv
// averages these.
std::string runs_csv(const SweepPlan& plan, const Results& results);

}  // namespace calque::study
