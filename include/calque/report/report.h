#pragma once

#include <filesystem>

namespace calque::report {

// Writes the report of a run or sweep folder into `out` (empty: "report" inside the folder):
// index.html, which needs no other file and no network, and each plot as .svg with its data as
// .csv. Replaces the files of an earlier report. Returns the page's path. The same record gives the
// same bytes. Errors of load_run and load_sweep; Error(kResource) if it cannot write.
std::filesystem::path write_report(const std::filesystem::path& folder,
                                   const std::filesystem::path& out = {});

}  // namespace calque::report
