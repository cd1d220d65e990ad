#include "report/row_plots.h"

#include <algorithm>
#include <map>

#include "report/plot_frame.h"
#include "report/svg_style.h"

namespace calque::report {
namespace {

constexpr double kWidth = 550;

double label_space(const std::vector<std::string>& labels) {
  double space = 40;
  for (const std::string& label : labels) space = std::max(space, text_width(label, 11));
  return space + 14;
}

// The positive ones, with room around; 1 to 10 if there are none.
Scale log_scale(const std::vector<double>& values, double from, double to) {
  double low = 1e300, high = 0;
  for (const double value : values) {
    if (value <= 0) continue;
    low = std::min(low, value);
    high = std::max(high, value);
  }
  return high > 0 ? Scale::log(low / 1.1, high * 1.1, from, to) : Scale::log(1, 10, from, to);
}

}  // namespace

Svg draw(const BarPlot& plot) {
  constexpr double kRow = 24, kTop = 32;
  double left = 60, text_space = 0, most = 0;
  for (const BarRow& row : plot.rows) {
    left = std::max(left, text_width(row.label, 11) + 14);
    text_space = std::max(text_space, text_width(row.text, 11) + 16);
    most = std::max({most, row.measured, row.predicted});
  }
  const double space = kWidth - left - text_space;
  const auto wide = [&](double value) { return most > 0 ? space * value / most : 0; };
  Svg svg(kWidth, kTop + kRow * static_cast<double>(plot.rows.size()) + 6, plot.title,
          plot.description);
  svg.text({4, 18}, plot.title, "heading");
  for (std::size_t r = 0; r < plot.rows.size(); ++r) {
    const BarRow& row = plot.rows[r];
    const double y = kTop + kRow * static_cast<double>(r);
    svg.text({left - 7, y + 14}, row.label, "tick", Anchor::kEnd);
    svg.rect({left, y + 4}, wide(row.measured), kRow - 9, "bar", "", row.label + ": " + row.text);
    if (row.predicted > 0) svg.rect({left, y + 2}, wide(row.predicted), kRow - 5, "predicted");
    svg.text({left + wide(std::max(row.measured, row.predicted)) + 7, y + 14}, row.text, "tick");
  }
  svg.line({left, kTop - 2}, {left, kTop + kRow * static_cast<double>(plot.rows.size())}, "axis");
  return svg;
}

Svg draw(const DotPlot& plot) {
  constexpr double kRow = 30;
  const double left = label_space(plot.rows), right = kWidth - 24;
  double top = 30;
  const double legend = plot.series.size() > 1 ? 18 : 0;
  top += legend;
  const double bottom = top + kRow * static_cast<double>(plot.rows.size());
  Svg svg(kWidth, bottom + 46, plot.title, plot.description);
  if (legend > 0) draw_legend(svg, {left, 14}, right - left, plot.series);
  std::vector<double> values;
  for (const DotPoint& p : plot.points) values.push_back(p.value);
  const Scale x = log_scale(values, left, right);
  for (const Tick& tick : x.ticks(7)) {
    svg.line({x.at(tick.value), top}, {x.at(tick.value), bottom},
             tick.label.empty() ? "grid-minor" : "grid");
    if (!tick.label.empty())
      svg.text({x.at(tick.value), bottom + 16}, tick.label, "tick", Anchor::kMiddle);
  }
  for (std::size_t r = 0; r < plot.rows.size(); ++r) {
    const double y = top + kRow * (static_cast<double>(r) + 0.5);
    svg.line({left, y}, {right, y}, "grid");
    svg.text({left - 8, y + 4}, plot.rows[r], "tick", Anchor::kEnd);
  }
  for (const DotPoint& p : plot.points) {
    if (p.value <= 0) continue;
    const double y = top + kRow * (static_cast<double>(p.row) + 0.5);
    if (p.error > 0)
      svg.line({x.at(std::max(p.value - p.error, x.low())), y}, {x.at(p.value + p.error), y},
               "error-bar stroke " + series_class(p.series));
    svg.marker({x.at(p.value), y}, p.series, p.tooltip);
  }
  svg.text({(left + right) / 2, bottom + 36}, plot.x_title, "axis-title", Anchor::kMiddle);
  return svg;
}

Svg draw(const KeyPlot& plot) {
  constexpr double kTop = 34, kBottom = 222, kLeft = 66, kRight = 356;
  Svg svg(370, 272, plot.title, plot.description);
  svg.text({kLeft, 18}, plot.title, "heading");
  std::vector<double> ys;
  for (const KeyPoint& p : plot.points) ys.push_back(p.y);
  const Scale y = log_scale(ys, kBottom, kTop);
  const auto count = static_cast<double>(std::max<std::size_t>(1, plot.values.size()));
  const auto x_of = [&](std::size_t value) {
    return kLeft + (static_cast<double>(value) + 0.5) * (kRight - kLeft) / count;
  };
  for (const Tick& tick : y.ticks(6)) {
    svg.line({kLeft, y.at(tick.value)}, {kRight, y.at(tick.value)},
             tick.label.empty() ? "grid-minor" : "grid");
    if (!tick.label.empty())
      svg.text({kLeft - 7, y.at(tick.value) + 4}, tick.label, "tick", Anchor::kEnd);
  }
  double free_from = 0;
  for (std::size_t v = 0; v < plot.values.size(); ++v) {
    const double half = text_width(plot.values[v], 11) / 2;
    if (x_of(v) - half < free_from) continue;
    svg.text({x_of(v), kBottom + 16}, plot.values[v], "tick", Anchor::kMiddle);
    free_from = x_of(v) + half + 6;
  }
  svg.line({kLeft, kBottom}, {kRight, kBottom}, "axis");
  svg.line({kLeft, kTop}, {kLeft, kBottom}, "axis");
  svg.text({(kLeft + kRight) / 2, kBottom + 36}, plot.x_title, "axis-title", Anchor::kMiddle);
  svg.vertical_text({10, (kTop + kBottom) / 2}, plot.y_title, "axis-title");
  std::map<std::string, std::map<std::size_t, std::pair<double, std::size_t>>> lines;
  for (const KeyPoint& p : plot.points)
    if (p.y > 0) lines[p.others][p.value] = {p.y, p.series};
  for (const auto& [others, line] : lines) {
    std::vector<Xy> path;
    for (const auto& [value, at] : line) path.push_back({x_of(value), y.at(at.first)});
    svg.polyline(path, "curve faint stroke " + series_class(line.begin()->second.second));
  }
  for (const KeyPoint& p : plot.points)
    if (p.y > 0) svg.marker({x_of(p.value), y.at(p.y)}, p.series, p.tooltip);
  return svg;
}

}  // namespace calque::report
