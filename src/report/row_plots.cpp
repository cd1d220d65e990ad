#include "report/row_plots.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <numeric>

#include "report/scale.h"
#include "report/svg.h"

namespace calque::report {
namespace {

double label_space(const std::vector<std::string>& labels) {
  double space = 40;
  for (const std::string& label : labels) space = std::max(space, text_width(label, 11));
  return space + 14;
}

// A scale for the positive values, with margins; 1 to 10 if there are none.
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
  const double space = kPlotWidth - left - text_space;
  const auto wide = [&](double value) { return most > 0 ? space * value / most : 0; };
  Svg svg(kPlotWidth, kTop + kRow * static_cast<double>(plot.rows.size()) + 6, plot.title,
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
  const double left = label_space(plot.rows), right = kPlotWidth - 24;
  double top = 30;
  const double legend = plot.series.size() > 1 ? 18 : 0;
  top += legend;
  const double bottom = top + kRow * static_cast<double>(plot.rows.size());
  Svg svg(kPlotWidth, bottom + 46, plot.title, plot.description);
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

namespace {

constexpr double kSpreadHeight = 58, kSpreadTop = 40;
const std::vector<std::string> kMarks = {"mean", "median", "99 %", "99.9 %"};

// Spans the bins with at least a thousandth of a model's tokens, for any model, and all marks.
std::pair<double, double> range_of(const SpreadPlot& plot) {
  double low = 1e300, high = 0;
  const auto add = [&](double value) {
    if (value <= 0) return;
    low = std::min(low, value);
    high = std::max(high, value);
  };
  for (const SpreadRow& row : plot.rows) {
    const record::DivergenceResult& d = row.divergence;
    for (const double v : {d.kl_mean, d.kl_median, d.kl_p99, d.kl_p999}) add(v);
    const record::KlHistogram& h = d.kl_histogram;
    const std::int64_t total = std::accumulate(h.counts.begin(), h.counts.end(), std::int64_t{0});
    for (std::size_t b = 0; b < h.counts.size(); ++b)
      if (h.counts[b] * 1000 > total) {
        add(h.edge(b));
        add(h.edge(b + 1));
      }
  }
  return high > 0 ? std::pair(low, high) : std::pair(1e-6, 1.0);
}

void draw_bars(Svg& svg, const record::KlHistogram& h, const PlotFrame& frame, double base) {
  if (h.counts.empty()) return;
  const auto most = static_cast<double>(std::max<std::int64_t>(1, std::ranges::max(h.counts)));
  const std::int64_t total = std::accumulate(h.counts.begin(), h.counts.end(), std::int64_t{0});
  for (std::size_t b = 0; b < h.counts.size(); ++b) {
    const double left = frame.x.at(h.edge(b)), right = frame.x.at(h.edge(b + 1));
    if (h.counts[b] == 0 || right - left < 0.5) continue;
    const double height = (kSpreadHeight - 20) * static_cast<double>(h.counts[b]) / most;
    svg.rect({left, base - height}, right - left, height, "bar", "",
             fmt::format("{} to {}: {:.2f} % of tokens", number_text(h.edge(b)),
                         number_text(h.edge(b + 1)),
                         100.0 * static_cast<double>(h.counts[b]) / static_cast<double>(total)));
  }
}

void draw_mark(Svg& svg, const PlotFrame& frame, double base, std::size_t mark, double value,
               const record::Interval& interval = {}) {
  if (value <= 0) return;
  if (interval.known())
    svg.line({frame.x.at(interval.low), base + 6}, {frame.x.at(interval.high), base + 6}, "axis");
  svg.marker({frame.x.at(value), base + 6}, mark,
             fmt::format("{}: {}", kMarks[mark], number_text(value)));
}

}  // namespace

Svg draw(const SpreadPlot& plot) {
  double left = 60;
  for (const SpreadRow& row : plot.rows) left = std::max(left, text_width(row.label, 11) + 14);
  const double bottom = kSpreadTop + kSpreadHeight * static_cast<double>(plot.rows.size());
  Svg svg(kPlotWidth, bottom + 48, plot.title, plot.description);
  draw_legend(svg, {left, 14}, kPlotWidth - left, kMarks);
  const auto [low, high] = range_of(plot);
  const double right = kPlotWidth - 24;
  const PlotFrame frame{left,
                        kSpreadTop,
                        right,
                        bottom,
                        Scale::log(low, high, left, right),
                        Scale::linear(0, 1, bottom, kSpreadTop)};
  for (const Tick& tick : frame.x.ticks(7)) {
    const double x = frame.x.at(tick.value);
    svg.line({x, kSpreadTop}, {x, bottom}, tick.label.empty() ? "grid-minor" : "grid");
    if (!tick.label.empty()) svg.text({x, bottom + 16}, tick.label, "tick", Anchor::kMiddle);
  }
  for (std::size_t r = 0; r < plot.rows.size(); ++r) {
    const double base = kSpreadTop + kSpreadHeight * static_cast<double>(r + 1) - 14;
    const record::DivergenceResult& d = plot.rows[r].divergence;
    svg.text({left - 8, base - 8}, plot.rows[r].label, "tick", Anchor::kEnd);
    draw_bars(svg, d.kl_histogram, frame, base);
    svg.line({left, base}, {right, base}, "axis");
    draw_mark(svg, frame, base, 3, d.kl_p999, d.p999_interval);
    draw_mark(svg, frame, base, 2, d.kl_p99, d.p99_interval);
    draw_mark(svg, frame, base, 1, d.kl_median, d.median_interval);
    draw_mark(svg, frame, base, 0, d.kl_mean);
  }
  svg.text({(left + right) / 2, bottom + 36}, "KL divergence per token, nats (log scale)",
           "axis-title", Anchor::kMiddle);
  return svg;
}

namespace {

constexpr double kCellHeight = 21;
constexpr double kStripTop = 34;
constexpr double kSpaceForCells = 620;
constexpr double kLegendWidth = 84;
constexpr double kCellFont = 10;

// Left edge and width of the cells.
struct Geometry {
  double left;
  double cell_width;
  double right() const { return left + cell_width * columns; }
  double columns;
};

Geometry geometry_of(const HeatStrip& strip) {
  double widest = 40;
  for (const std::string& row : strip.rows) widest = std::max(widest, text_width(row, 11));
  const auto columns = static_cast<double>(std::max<std::size_t>(1, strip.columns.size()));
  return {widest + 14, std::clamp(kSpaceForCells / columns, 6.0, 46.0), columns};
}

void draw_cell(Svg& svg, const HeatCell& cell, Xy corner, double width) {
  svg.rect(corner, width, kCellHeight, "cell", ramp_colour(cell.share), cell.tooltip);
  if (cell.text.empty() || text_width(cell.text, kCellFont) > width - 4) return;
  svg.text({corner.x + width / 2, corner.y + kCellHeight / 2 + 3.5}, cell.text,
           cell.share < 0.6 ? "small on-dark" : "small on-light", Anchor::kMiddle);
}

void draw_column_titles(Svg& svg, const HeatStrip& strip, const Geometry& at, double y) {
  double free_from = 0;
  for (std::size_t c = 0; c < strip.columns.size(); ++c) {
    const double x = at.left + (static_cast<double>(c) + 0.5) * at.cell_width;
    const double half = text_width(strip.columns[c], 11) / 2;
    if (x - half < free_from) continue;
    svg.text({x, y}, strip.columns[c], "tick", Anchor::kMiddle);
    free_from = x + half + 5;
  }
  svg.text({(at.left + at.right()) / 2, y + 17}, strip.columns_title, "axis-title",
           Anchor::kMiddle);
}

void draw_legend_bar(Svg& svg, const HeatStrip& strip, double x, double height) {
  constexpr int kPieces = 40;
  for (int i = 0; i < kPieces; ++i) {
    const double share = (i + 0.5) / kPieces;
    svg.rect({x, kStripTop + height * (1 - (i + 1.0) / kPieces)}, 12, height / kPieces + 0.6, "",
             ramp_colour(share));
  }
  double free_below = 1e9;
  for (const auto& [share, label] : strip.legend) {
    const double y = kStripTop + height * (1 - share);
    if (y > free_below) continue;
    svg.text({x + 17, y + 4}, label, "tick");
    free_below = y - 13;
  }
}

}  // namespace

Svg draw(const HeatStrip& strip) {
  const Geometry at = geometry_of(strip);
  const double height = kCellHeight * static_cast<double>(strip.rows.size());
  const double title_width = text_width(strip.title, 13) + 12;
  Svg svg(std::max(at.right() + kLegendWidth, title_width), kStripTop + height + 42, strip.title,
          strip.description);
  svg.text({4, 18}, strip.title, "heading");
  for (std::size_t r = 0; r < strip.rows.size(); ++r) {
    const double y = kStripTop + kCellHeight * static_cast<double>(r);
    svg.text({at.left - 7, y + kCellHeight / 2 + 4}, strip.rows[r], "tick", Anchor::kEnd);
    for (std::size_t c = 0; c < strip.columns.size(); ++c) {
      const Xy corner{at.left + at.cell_width * static_cast<double>(c), y};
      if (const auto& cell = strip.cells[r][c])
        draw_cell(svg, *cell, corner, at.cell_width);
      else
        svg.rect(corner, at.cell_width, kCellHeight, "cell empty");
    }
  }
  draw_column_titles(svg, strip, at, kStripTop + height + 15);
  draw_legend_bar(svg, strip, at.right() + 14, height);
  return svg;
}

}  // namespace calque::report
