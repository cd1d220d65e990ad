#pragma once

#include <string>
#include <vector>

#include "calque/io/json.h"
#include "calque/report/points.h"

namespace calque::cli {

// The models of all folders, in the folders' order.
std::vector<report::Point> points_in(const std::vector<std::string>& folders);

// KL mean, its error, top-1 %, perplexity and its uncertainty on the main text; "-" if not
// measured.
std::vector<std::string> quality_cells(const report::Point& point);

// Right answers in percent and their standard error, each "-" where the task was not measured.
std::vector<std::string> task_cells(const report::Point& point, const std::string& task);

io::Json json_of(const report::Point& point);

}  // namespace calque::cli
