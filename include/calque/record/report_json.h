#pragma once

#include <string>
#include <vector>

#include "calque/io/json.h"
#include "calque/record/report.h"

namespace calque::record {

// The report as metrics.json holds it: sizes, metrics, seconds by stage, peak memory. No local
// paths: artifacts appear under their file names.
std::string report_json(const Report& report);
// The same read back. What a file of another version lacks stays at its default (0, empty), plans
// hold what the file says of them, and evaluations of nothing are left out; a value of another kind
// is Error(kInput).
Report report_from(const io::Json& metrics);

// What was used for calibration, exactly: calibration_manifest.json.
std::string manifest_json(const text::Manifest& manifest);
text::Manifest manifest_from(const io::Json& json);

// What metrics.json holds under "evaluations".
std::string evaluations_json(const std::vector<EvaluationReport>& evaluations);

// {"tokenize": ..., ..., "evaluate": ...}
io::Json json_of(const StageSeconds& stages);
io::Json json_of(const Predicted& predicted);

}  // namespace calque::record
