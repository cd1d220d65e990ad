#pragma once

namespace calque::cli {

// From here on SIGINT and SIGTERM delete what is half-written and end the process with 130 or 143.
// Call it before any other thread starts: threads inherit that they do not take these signals.
void clean_up_when_interrupted();

}  // namespace calque::cli
