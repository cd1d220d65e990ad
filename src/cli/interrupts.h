#pragma once

#include <memory>

#include "calque/resume/saved_run.h"

namespace calque::cli {

// After this call, SIGINT and SIGTERM delete half-written files that are not saved, print how to
// resume from `saved`, and end the process with 130 or 143; a second signal ends it at once. Call
// it before any other thread starts, because threads inherit the mask of blocked signals.
void clean_up_when_interrupted(std::shared_ptr<const resume::SavedRun> saved);

}  // namespace calque::cli
