#pragma once

#include <string>
#include <vector>

#include "calque/report/record.h"
#include "report/svg.h"

namespace calque::report {

struct SpreadRow {
  std::string label;
  record::DivergenceResult divergence;
};

// A row a model: how many tokens have which KL divergence (logarithmic x), with the mean and,
// beside their 95 % intervals, the median, the 99th and the 99.9th percentile.
struct SpreadPlot {
  std::string title;
  std::string description;
  std::vector<SpreadRow> rows;
};

Svg draw(const SpreadPlot& plot);

}  // namespace calque::report
