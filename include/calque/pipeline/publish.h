#pragma once

#include <cstddef>
#include <string>

#include "calque/pipeline/job.h"
#include "calque/pipeline/report.h"

namespace calque::pipeline {

// Makes the folder of one artifact ready to be uploaded: README.md, calque/job.resolved.yaml,
// calque/calibration_manifest.json, calque/metrics.json (with a probe for `calque verify`), and
// SHA256SUMS last, as job.publish says. No local paths. Does nothing for gguf, which is one file.
void publish_folder(const Report& report, std::size_t artifact_index, const Job& job,
                    const std::string& resolved_yaml);

}  // namespace calque::pipeline
