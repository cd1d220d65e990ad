#pragma once

#include <vector>

#include "calque/config/sweep_file.h"

namespace calque::study {

// One setting of everything that a sweep changes, and the runs that measure it.
struct Point {
  int number = 0;             // from 1, in the order of --list
  config::Settings settings;  // of the grid, then of `paired`
  // What each run sets beside: one combination of the replicates a run; without replicates one run
  // with nothing.
  std::vector<config::Settings> replicates;
};

// The points of a sweep: every combination of the grid, its last key changing fastest; each with
// every entry of `paired`; without those that an entry of `exclude` names. Error(kConfig, "E184")
// if nothing is left, or an exclusion names a value that its key never takes.
std::vector<Point> expand(const config::SweepFile& sweep);

}  // namespace calque::study
