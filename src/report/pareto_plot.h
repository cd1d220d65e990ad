#pragma once

#include <optional>
#include <string>
#include <vector>

#include "report/svg.h"

namespace calque::report {

struct ParetoPoint {
  std::string label;
  double x = 0;      // size
  double y = 0;      // loss, > 0; others are drawn on the lower edge
  double error = 0;  // the bar spans y - error to y + error
  std::size_t series = 0;
  std::string tooltip;
};

struct ParetoPlot {
  std::string title;
  std::string description;
  std::string x_title;
  std::string y_title;
  std::vector<ParetoPoint> points;
  std::vector<std::string> series;  // names for the legend; one or none: no legend
  // The original's size, drawn as a line, or as a note at the right edge if it is far off.
  std::optional<double> source_x;
  std::string source_label;
  std::optional<double> noise_floor;
};

// Loss (logarithmic) against size, with a line through the points that no other beats in both.
Svg draw(const ParetoPlot& plot);

}  // namespace calque::report
