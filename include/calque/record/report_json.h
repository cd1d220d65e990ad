#pragma once

#include <string>
#include <vector>

#include "calque/record/report.h"

namespace calque::record {

// The report as metrics.json holds it: sizes, metrics, seconds by stage, peak memory. No local
// paths: artifacts appear under their file names.
std::string report_json(const Report& report);

// What was used for calibration, exactly: calibration_manifest.json.
std::string manifest_json(const text::Manifest& manifest);

// What metrics.json holds under "evaluations".
std::string evaluations_json(const std::vector<EvaluationReport>& evaluations);

}  // namespace calque::record
