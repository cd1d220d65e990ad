#pragma once

#include <string>

#include "calque/study/state.h"

namespace calque::study {

// results.csv: a row a point, its replicates folded into means (kl_mean_sd: their standard
// deviation; peak_bytes: the largest), always the same columns in one sweep. Further exports of a
// point follow with the same number and their name in `type`. RFC 4180; bytes are integers, other
// numbers have six digits; what is not known is empty.
std::string results_csv(const SweepPlan& plan, const Results& results);

// runs.csv: a row a run with what it took and its first artifact's numbers: what the means and
// deviations are of.
std::string runs_csv(const SweepPlan& plan, const Results& results);

}  // namespace calque::study
