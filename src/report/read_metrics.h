#pragma once

#include "calque/io/json.h"
#include "calque/report/record.h"

namespace calque::report {

// metrics.json, the manifest in it or beside it, into their records. Field names: the writer's
// (pipeline/report_json.h).
void read_metrics(const io::Json& metrics, Run& run);
TokenRecord token_record(const io::Json& manifest);

}  // namespace calque::report
