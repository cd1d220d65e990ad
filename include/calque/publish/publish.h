#pragma once

#include <cstddef>
#include <filesystem>
#include <string>
#include <vector>

#include "calque/job/job.h"
#include "calque/record/report.h"

namespace calque::publish {

// Makes the folder of one artifact ready for upload: README.md, calque/job.resolved.yaml,
// calque/calibration_manifest.json, calque/metrics.json (with a probe for `calque verify`), and
// SHA256SUMS last, as job.publish says. Writes no local paths. Does nothing for gguf, which is a
// single file.
void publish_folder(const record::Report& report, std::size_t artifact_index, const job::Job& job,
                    const std::string& resolved_yaml);

// The licence stated by the source folder.
struct SourceLicense {
  std::vector<std::string> ids;  // {"apache-2.0"} from the source's model card; empty: not stated
  std::string name;              // license_name and license_link of the card; "": not stated
  std::string link;
  std::string file;  // "LICENSE"; "": none

  std::string text() const;  // the ids, separated by ", "
};
SourceLicense license_of(const std::filesystem::path& model_folder);

}  // namespace calque::publish
