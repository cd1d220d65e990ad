#pragma once

#include "calque/model/family.h"
#include "pipeline/stage_work.h"

namespace calque::pipeline {

// What `sequences` of `length` tokens take in a block beside its linears.
Work between_linears(const model::ModelConfig& config, const model::BlockSpec& block,
                     double sequences, double length);

}  // namespace calque::pipeline
