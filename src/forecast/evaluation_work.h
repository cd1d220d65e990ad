#pragma once

#include "calque/model/family.h"
#include "forecast/stage_work.h"

namespace calque::forecast {

// What `sequences` of `length` tokens take in a block beside its linears.
Work between_linears(const model::ModelConfig& config, const model::BlockSpec& block,
                     double sequences, double length);

}  // namespace calque::forecast
