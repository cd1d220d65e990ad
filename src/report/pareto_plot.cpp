#include "report/pareto_plot.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "calque/report/points.h"
#include "report/labels.h"
#include "report/scale.h"
#include "report/svg.h"

namespace calque::report {
namespace {

constexpr double kHeight = 430;
constexpr double kFarOff =
    1.35;  // beyond this many times the largest point, the original gets a note

struct Range {
  double low = std::numeric_limits<double>::infinity();
  double high = -std::numeric_limits<double>::infinity();
  void add(double value) {
    low = std::min(low, value);
    high = std::max(high, value);
  }
};

bool source_is_near(const ParetoPlot& plot) {
  double largest = 0;
  for (const ParetoPoint& p : plot.points) largest = std::max(largest, p.x);
  return plot.source_x && *plot.source_x <= kFarOff * largest;
}

Scale x_scale(const ParetoPlot& plot, double from, double to) {
  Range range;
  for (const ParetoPoint& p : plot.points) range.add(p.x);
  if (source_is_near(plot)) range.add(*plot.source_x);
  const double margin = 0.04 * (range.high - range.low);
  return Scale::linear(std::max(0.0, range.low - margin), range.high + margin, from, to);
}

Scale y_scale(const ParetoPlot& plot, double from, double to) {
  Range range;
  for (const ParetoPoint& p : plot.points) {
    if (p.y <= 0) continue;
    range.add(p.y + p.error);
    // A bar that reaches down to zero does not stretch the axis.
    range.add(std::max(p.y - p.error, p.y / 2));
  }
  if (range.low > range.high) range = {1e-4, 1e-2};
  if (plot.noise_floor && *plot.noise_floor > 0) range.add(*plot.noise_floor);
  return Scale::log(range.low / 1.1, range.high * 1.1, from, to);
}

Xy place(const PlotFrame& frame, const ParetoPoint& p) {
  return {frame.x.at(p.x), p.y > 0 ? frame.y.at(p.y) : frame.bottom};
}

std::vector<Xy> front_line(const ParetoPlot& plot, const PlotFrame& frame) {
  std::vector<Cost> costs;
  for (const ParetoPoint& p : plot.points) costs.push_back({p.x, p.y});
  std::vector<Xy> line;
  for (const std::size_t i : pareto_front(costs)) line.push_back(place(frame, plot.points[i]));
  return line;
}

void draw_error_bar(Svg& svg, const PlotFrame& frame, const ParetoPoint& p) {
  if (p.error <= 0 || p.y <= 0) return;
  const double x = frame.x.at(p.x);
  const double low = frame.y.at(std::max(p.y - p.error, frame.y.low()));
  const double high = frame.y.at(p.y + p.error);
  const std::string css_class = "error-bar stroke " + series_class(p.series);
  svg.line({x, low}, {x, high}, css_class);
  svg.line({x - 4, low}, {x + 4, low}, css_class);
  svg.line({x - 4, high}, {x + 4, high}, css_class);
}

std::vector<Xy> along(const std::vector<Xy>& line) {
  std::vector<Xy> places;
  for (std::size_t i = 1; i < line.size(); ++i) {
    const double length = std::hypot(line[i].x - line[i - 1].x, line[i].y - line[i - 1].y);
    for (double at = 0; at < length; at += 5)
      places.push_back({line[i - 1].x + at / length * (line[i].x - line[i - 1].x),
                        line[i - 1].y + at / length * (line[i].y - line[i - 1].y)});
  }
  return places;
}

void draw_labels(Svg& svg, const ParetoPlot& plot, const PlotFrame& frame,
                 const std::vector<Xy>& front) {
  LabelTask task;
  task.bounds = {frame.left + 2, frame.top - 8, kPlotWidth - 3, frame.bottom - 2};
  for (const ParetoPoint& p : plot.points) {
    task.points.push_back(place(frame, p));
    task.labels.push_back(p.label);
  }
  task.obstacles = along(front);
  const auto placed = place_labels(task);
  for (std::size_t i = 0; i < placed.size(); ++i)
    if (placed[i] && placed[i]->leader) svg.line(task.points[i], placed[i]->leader_end, "leader");
  for (std::size_t i = 0; i < placed.size(); ++i)
    if (placed[i]) svg.text(placed[i]->text_at, task.labels[i], "label");
}

void draw_source(Svg& svg, const ParetoPlot& plot, const PlotFrame& frame) {
  if (!plot.source_x) return;
  if (!source_is_near(plot)) {
    svg.text({frame.right, frame.top - 8}, plot.source_label + " \xE2\x86\x92", "tick",
             Anchor::kEnd);
    return;
  }
  const double x = frame.x.at(*plot.source_x);
  svg.line({x, frame.top}, {x, frame.bottom}, "reference");
  svg.text({x, frame.top - 8}, plot.source_label, "tick", Anchor::kMiddle);
}

void draw_noise_floor(Svg& svg, const ParetoPlot& plot, const PlotFrame& frame) {
  if (!plot.noise_floor || *plot.noise_floor <= 0) return;
  const double y = frame.y.at(*plot.noise_floor);
  svg.line({frame.left, y}, {frame.right, y}, "reference");
  svg.text({frame.left + 6, y - 5}, "noise floor: the original in bfloat16", "tick");
}

}  // namespace

Svg draw(const ParetoPlot& plot) {
  Svg svg(kPlotWidth, kHeight, plot.title, plot.description);
  const bool legend = plot.series.size() > 1;
  double top = 34;
  if (legend) top += draw_legend(svg, {70, 12}, kPlotWidth - 90, plot.series) - 6;
  const double right = kPlotWidth - 34, bottom = kHeight - 48;
  const PlotFrame frame{
      72, top, right, bottom, x_scale(plot, 72, right), y_scale(plot, bottom, top)};
  draw_frame(svg, frame, plot.x_title, plot.y_title);
  draw_source(svg, plot, frame);
  draw_noise_floor(svg, plot, frame);
  const std::vector<Xy> front = front_line(plot, frame);
  svg.polyline(front, "front");
  for (const ParetoPoint& p : plot.points) draw_error_bar(svg, frame, p);
  for (const ParetoPoint& p : plot.points) svg.marker(place(frame, p), p.series, p.tooltip);
  draw_labels(svg, plot, frame, front);
  return svg;
}

}  // namespace calque::report
