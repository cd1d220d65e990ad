#pragma once

#include <cstddef>
#include <string>

#include "calque/job/job.h"
#include "calque/publish/publish.h"
#include "calque/record/report.h"

namespace calque::publish {

// README.md of one artifact: front matter for model hubs, description, files, measured quality, how
// to run it, how it was made, limits, license. Names no local folder.
std::string model_card(const record::Report& report, std::size_t artifact_index,
                       const job::Job& job, const std::string& resolved_yaml);

// `text` with every absolute path cut to its last part.
std::string without_local_paths(const std::string& text);

}  // namespace calque::publish
