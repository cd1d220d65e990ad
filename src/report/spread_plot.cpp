#include "report/spread_plot.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "report/plot_frame.h"

namespace calque::report {
namespace {

constexpr double kRowHeight = 58, kTop = 40, kWidth = 550;
const std::vector<std::string> kMarks = {"mean", "median", "99 %", "99.9 %"};

double edge_of(const Histogram& h, std::size_t bin) {
  return std::pow(10.0, h.log10_first + h.log10_step * static_cast<double>(bin));
}

// From the first to the last bin of any model that holds a thousandth of its tokens, and all marks.
std::pair<double, double> range_of(const SpreadPlot& plot) {
  double low = 1e300, high = 0;
  const auto add = [&](double value) {
    if (value <= 0) return;
    low = std::min(low, value);
    high = std::max(high, value);
  };
  for (const SpreadRow& row : plot.rows) {
    const Divergence& d = row.divergence;
    for (const double v : {d.kl_mean.value, d.kl_median.value, d.kl_p99.value, d.kl_p999.value})
      add(v);
    std::uint64_t total = 0;
    for (const std::uint64_t count : d.histogram.counts) total += count;
    for (std::size_t b = 0; b < d.histogram.counts.size(); ++b)
      if (d.histogram.counts[b] * 1000 > total) {
        add(edge_of(d.histogram, b));
        add(edge_of(d.histogram, b + 1));
      }
  }
  return high > 0 ? std::pair(low, high) : std::pair(1e-6, 1.0);
}

void draw_bars(Svg& svg, const Histogram& h, const PlotFrame& frame, double base) {
  if (h.counts.empty()) return;
  const auto most = static_cast<double>(std::max<std::uint64_t>(1, std::ranges::max(h.counts)));
  std::uint64_t total = 0;
  for (const std::uint64_t count : h.counts) total += count;
  for (std::size_t b = 0; b < h.counts.size(); ++b) {
    const double left = frame.x.at(edge_of(h, b)), right = frame.x.at(edge_of(h, b + 1));
    if (h.counts[b] == 0 || right - left < 0.5) continue;
    const double height = (kRowHeight - 20) * static_cast<double>(h.counts[b]) / most;
    svg.rect({left, base - height}, right - left, height, "bar", "",
             fmt::format("{} to {}: {:.2f} % of tokens", number_text(edge_of(h, b)),
                         number_text(edge_of(h, b + 1)),
                         100.0 * static_cast<double>(h.counts[b]) / static_cast<double>(total)));
  }
}

void draw_mark(Svg& svg, const PlotFrame& frame, double base, std::size_t mark,
               const Percentile& p) {
  if (p.value <= 0) return;
  if (p.interval)
    svg.line({frame.x.at((*p.interval)[0]), base + 6}, {frame.x.at((*p.interval)[1]), base + 6},
             "axis");
  svg.marker({frame.x.at(p.value), base + 6}, mark,
             fmt::format("{}: {}", kMarks[mark], number_text(p.value)));
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
    const Divergence& d = plot.rows[r].divergence;
    svg.text({left - 8, base - 8}, plot.rows[r].label, "tick", Anchor::kEnd);
    draw_bars(svg, d.histogram, frame, base);
    svg.line({left, base}, {right, base}, "axis");
    draw_mark(svg, frame, base, 3, d.kl_p999);
    draw_mark(svg, frame, base, 2, d.kl_p99);
    draw_mark(svg, frame, base, 1, d.kl_median);
    draw_mark(svg, frame, base, 0, {d.kl_mean.value, {}});
  }
  svg.text({(left + right) / 2, bottom + 36}, "KL divergence of a token, nats (log scale)",
           "axis-title", Anchor::kMiddle);
  return svg;
}

}  // namespace calque::report
