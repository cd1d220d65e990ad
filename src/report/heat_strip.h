#pragma once

#include <optional>
#include <string>
#include <vector>

#include "report/svg.h"

namespace calque::report {

struct HeatCell {
  double share = 0;  // place on the colour ramp, 0 to 1
  std::string text;  // written into the cell where it fits
  std::string tooltip;
};

// Rows of coloured cells: a module a row, a layer a column.
struct HeatStrip {
  std::string title;
  std::string description;
  std::string columns_title;
  std::vector<std::string> columns;
  std::vector<std::string> rows;
  std::vector<std::vector<std::optional<HeatCell>>> cells;  // [row][column]
  // Of the colour bar, from 0 to 1; the same share as in cells.
  std::vector<std::pair<double, std::string>> legend;
};

Svg draw(const HeatStrip& strip);

}  // namespace calque::report
