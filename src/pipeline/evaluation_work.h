#pragma once

#include "calque/model/family.h"
#include "pipeline/stage_work.h"

namespace calque::pipeline {

// What `sequences` of `length` tokens take in a block beside its linears.
Work between_linears(const model::ModelConfig& config, const model::BlockSpec& block,
                     double sequences, double length);

// Windows of an evaluation that are run: those asked for (all of them: at four characters a token),
// and with a BOS each once more.
struct EvaluatedWindows {
  double windows = 0;
  double copies = 1;
};
EvaluatedWindows evaluated_windows(const EvaluationSettings& settings,
                                   const model::ModelConfig& config);

}  // namespace calque::pipeline
