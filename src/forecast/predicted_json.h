#pragma once

#include <string>

#include "calque/record/report.h"

namespace calque::forecast {

// {"tokenize": ..., ..., "evaluate": ...}
std::string stage_seconds_json(const record::StageSeconds& stages);
// metrics.json's "predicted".
std::string predicted_json(const record::Predicted& predicted);

}  // namespace calque::forecast
