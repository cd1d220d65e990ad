#pragma once

#include <string>
#include <vector>

#include "calque/io/json.h"
#include "calque/record/report.h"

namespace calque::record {

// The report as metrics.json: sizes, metrics, seconds by stage, peak memory. No local paths:
// artifacts appear under their file names.
std::string report_json(const Report& report);
// Reads a report back. Fields that another version's file lacks keep their defaults (0, empty),
// plans contain what the file says of them, and evaluations without results are left out. A value
// of another type is Error(kInput).
Report report_from(const io::Json& metrics);

// The exact calibration data: calibration_manifest.json.
std::string manifest_json(const text::Manifest& manifest);
text::Manifest manifest_from(const io::Json& json);

// One element of "evaluations", and back.
io::Json json_of(const EvaluationReport& text);
EvaluationReport evaluation_from(const io::Json& json);

// One element of "tasks", and back. Shares, differences and tests are written for readers; reading
// takes the answers.
io::Json json_of(const TaskReport& task);
TaskReport task_from(const io::Json& json);

// The "evaluations" value of metrics.json; with tasks an object of both values.
std::string evaluations_json(const std::vector<EvaluationReport>& evaluations,
                             const std::vector<TaskReport>& tasks = {});

// {"tokenize": ..., ..., "evaluate": ...}
io::Json json_of(const StageSeconds& stages);
io::Json json_of(const Predicted& predicted);

}  // namespace calque::record
