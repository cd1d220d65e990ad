#pragma once

#include <string>
#include <vector>

#include "cli/command.h"

namespace calque::cli {

// The manual's pages in roff, made from the tables of --help and of the job file's keys. `day` is
// that of the release, "2026-11-30", or "".
std::string program_manual(const std::vector<Command>& commands,
                           const std::string& day);   // calque(1)
std::string job_file_manual(const std::string& day);  // calque-job(5)

// Text as roff that shows these characters, with `code` in bold.
std::string roff(const std::string& text);

}  // namespace calque::cli
