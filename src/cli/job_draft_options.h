#pragma once

#include <string>
#include <vector>

#include "cli/command.h"
#include "cli/job_draft.h"

namespace calque::cli {

// The options of `calque quantize` and `calque init` that make a draft.
std::vector<Option> draft_options(DraftOptions& draft);

// The command that gives this draft, for a shell.
std::string command_line(const std::string& command, const DraftOptions& draft);

}  // namespace calque::cli
