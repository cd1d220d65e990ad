#pragma once

#include <optional>
#include <string>
#include <vector>

#include "calque/report/record.h"
#include "report/svg.h"

namespace calque::report {

// Horizontal bars: measured values filled, predicted values as outlines.
struct BarRow {
  std::string label;
  double measured = 0;
  double predicted = 0;  // 0: not predicted
  std::string text;      // to the right of the bar
};
struct BarPlot {
  std::string title;
  std::string description;
  std::vector<BarRow> rows;
};
Svg draw(const BarPlot& plot);

// Values by series (color and shape) in rows, on a logarithmic x axis.
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

// One key's values side by side, logarithmic y; points that differ only in that key are joined.
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

// One row per model: the number of tokens by KL divergence (logarithmic x), with the mean, and the
// median, 99th and 99.9th percentile with their 95 % intervals.
struct SpreadPlot {
  std::string title;
  std::string description;
  std::vector<SpreadRow> rows;
};

Svg draw(const SpreadPlot& plot);

struct HeatCell {
  double share = 0;  // position on the color ramp, 0 to 1
  std::string text;  // written into the cell if it fits
  std::string tooltip;
};

// Rows of colored cells: one row per module, one column per layer.
struct HeatStrip {
  std::string title;
  std::string description;
  std::string columns_title;
  std::vector<std::string> columns;
  std::vector<std::string> rows;
  std::vector<std::vector<std::optional<HeatCell>>> cells;  // [row][column]
  // Marks of the color bar: position from 0 to 1, as in cells, and text.
  std::vector<std::pair<double, std::string>> legend;
};

Svg draw(const HeatStrip& strip);

}  // namespace calque::report
