#pragma once

#include <cstddef>
#include <string>

#include "calque/job/job.h"
#include "calque/record/report.h"

namespace calque::publish {

// README.md of one artifact: front matter for model hubs, what it is, files, measured quality, how
// to run it, how it was made, limits, licence. Names no local folder.
std::string model_card(const record::Report& report, std::size_t artifact_index, const job::Job& job,
                       const std::string& resolved_yaml);

// `text` with every absolute path cut down to its last part.
std::string without_local_paths(const std::string& text);

// What the source folder says about its licence.
struct SourceLicense {
  std::string id;    // "apache-2.0" from the card of the source; "": it says none
  std::string file;  // "LICENSE"; "": none
};
SourceLicense license_of(const std::filesystem::path& model_folder);

}  // namespace calque::publish
