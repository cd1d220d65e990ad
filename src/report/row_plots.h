#pragma once

#include <optional>
#include <string>
#include <vector>

#include "calque/report/record.h"
#include "report/svg.h"

namespace calque::report {

// Horizontal bars, what was measured filled, what was predicted as an outline.
struct BarRow {
  std::string label;
  double measured = 0;
  double predicted = 0;  // 0: none
  std::string text;      // to the right of the bar
};
struct BarPlot {
  std::string title;
  std::string description;
  std::vector<BarRow> rows;
};
Svg draw(const BarPlot& plot);

// Values by series (colour and shape) in rows, x logarithmic.
struct DotPoint {
  std::size_t row = 0;
  std::size_t series = 0;
  double value = 0;  // <= 0: left out
  double error = 0;
  std::string tooltip;
};
struct DotPlot {
  std::string title;
  std::string description;
  std::string x_title;
  std::vector<std::string> rows;
  std::vector<std::string> series;
  std::vector<DotPoint> points;
};
Svg draw(const DotPlot& plot);

// One key's values side by side, y logarithmic; points that differ in that key alone are joined.
struct KeyPoint {
  std::size_t value = 0;  // index of KeyPlot::values
  double y = 0;           // <= 0: left out
  std::size_t series = 0;
  std::string others;  // values of the other keys
  std::string tooltip;
};
struct KeyPlot {
  std::string title;
  std::string description;
  std::string x_title;
  std::string y_title;
  std::vector<std::string> values;
  std::vector<KeyPoint> points;
};
Svg draw(const KeyPlot& plot);

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
