#pragma once

#include <cstddef>
#include <string>

#include "calque/job/job.h"
#include "calque/record/report.h"

namespace calque::publish {

// Makes the folder of one artifact ready to be uploaded: README.md, calque/job.resolved.yaml,
// calque/calibration_manifest.json, calque/metrics.json (with a probe for `calque verify`), and
// SHA256SUMS last, as job.publish says. No local paths. Does nothing for gguf, which is one file.
void publish_folder(const record::Report& report, std::size_t artifact_index, const job::Job& job,
                    const std::string& resolved_yaml);

}  // namespace calque::publish
