#include "report/spread_plot.h"

#include <fmt/format.h>

#include <algorithm>
#include <numeric>

#include "report/plot_frame.h"

namespace calque::report {
namespace {

constexpr double kRowHeight = 58, kTop = 40, kWidth = 550;
const std::vector<std::string> kMarks = {"mean", "median", "99 %", "99.9 %"};

// From the first to the last bin of any model that holds a thousandth of its tokens, and all marks.
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
    const double height = (kRowHeight - 20) * static_cast<double>(h.counts[b]) / most;
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
  const double bottom = kTop + kRowHeight * static_cast<double>(plot.rows.size());
  Svg svg(kWidth, bottom + 48, plot.title, plot.description);
  draw_legend(svg, {left, 14}, kWidth - left, kMarks);
  const auto [low, high] = range_of(plot);
  const double right = kWidth - 24;
  const PlotFrame frame{left,
                        kTop,
                        right,
                        bottom,
                        Scale::log(low, high, left, right),
                        Scale::linear(0, 1, bottom, kTop)};
  for (const Tick& tick : frame.x.ticks(7)) {
    const double x = frame.x.at(tick.value);
    svg.line({x, kTop}, {x, bottom}, tick.label.empty() ? "grid-minor" : "grid");
    if (!tick.label.empty()) svg.text({x, bottom + 16}, tick.label, "tick", Anchor::kMiddle);
  }
  for (std::size_t r = 0; r < plot.rows.size(); ++r) {
    const double base = kTop + kRowHeight * static_cast<double>(r + 1) - 14;
    const record::DivergenceResult& d = plot.rows[r].divergence;
    svg.text({left - 8, base - 8}, plot.rows[r].label, "tick", Anchor::kEnd);
    draw_bars(svg, d.kl_histogram, frame, base);
    svg.line({left, base}, {right, base}, "axis");
    draw_mark(svg, frame, base, 3, d.kl_p999, d.p999_interval);
    draw_mark(svg, frame, base, 2, d.kl_p99, d.p99_interval);
    draw_mark(svg, frame, base, 1, d.kl_median, d.median_interval);
    draw_mark(svg, frame, base, 0, d.kl_mean);
  }
  svg.text({(left + right) / 2, bottom + 36}, "KL divergence of a token, nats (log scale)",
           "axis-title", Anchor::kMiddle);
  return svg;
}

}  // namespace calque::report
