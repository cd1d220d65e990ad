#pragma once

#include <array>
#include <functional>
#include <string_view>

#include "calque/forecast/predict_time.h"
#include "forecast/stage_costs.h"

namespace calque::record {

// The stages with their names, in the order in which they come.
struct NamedStage {
  std::string_view name;
  double StageSeconds::*seconds;
};
const std::array<NamedStage, 8>& named_stages();

double sum(const StageSeconds& stages);
StageSeconds& operator+=(StageSeconds& to, const StageSeconds& stages);
StageSeconds difference(const StageSeconds& after, const StageSeconds& before);

// By the table of costs.
StageSeconds seconds_of(const forecast::Work& work, const job::Job& job, const forecast::MachineRates& rates);

// `predicted` with every stage multiplied by measured / expected, what a part of the job took
// against what it was predicted to take. A stage that the part has not, or that is too short to
// tell anything (a hundredth of a second), stays as it is.
StageSeconds corrected(const StageSeconds& predicted, const StageSeconds& expected,
                       const StageSeconds& measured);

// With the seconds that belong to no stage: loading libraries, opening files.
forecast::TimePrediction prediction_of(const StageSeconds& stages, std::string from);

}  // namespace calque::record
