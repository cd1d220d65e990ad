#pragma once

#include <memory>

#include "calque/resume/saved_run.h"

namespace calque::cli {

// From here on SIGINT and SIGTERM delete what is half-written and not saved, tell how to go on
// from what is `saved`, and end the process with 130 or 143; a second one ends it at once.
// Call it before any other thread starts: threads inherit that they do not take these signals.
void clean_up_when_interrupted(std::shared_ptr<const resume::SavedRun> saved);

}  // namespace calque::cli
