#pragma once

#include <nlohmann/json.hpp>

#include "calque/report/record.h"

namespace calque::report {

// metrics.json, the manifest in it or beside it, into their records. Field names: the writer's
// (pipeline/report_json.h).
void read_metrics(const nlohmann::json& metrics, Run& run);
TokenRecord token_record(const nlohmann::json& manifest);

}  // namespace calque::report
