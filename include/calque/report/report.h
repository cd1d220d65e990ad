#pragma once

#include <filesystem>

namespace calque::report {

// Writes the report of a run or a sweep folder into `out` (empty: its own folder "report"):
// index.html, which needs no other file and no network, each plot as .svg and its data as .csv.
// Files of an earlier report are replaced. Returns the page's path. The same record gives the same
// bytes. Errors of load_run and load_sweep; Error(kResource) where nothing can be written.
std::filesystem::path write_report(const std::filesystem::path& folder,
                                   const std::filesystem::path& out = {});

}  // namespace calque::report
