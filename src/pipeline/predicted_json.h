#pragma once

#include <string>

#include "calque/pipeline/report.h"

namespace calque::pipeline {

// {"tokenize": ..., ..., "evaluate": ...}
std::string stage_seconds_json(const StageSeconds& stages);
// metrics.json's "predicted".
std::string predicted_json(const Predicted& predicted);

}  // namespace calque::pipeline
