#include "report/plot_frame.h"

#include <algorithm>

namespace calque::report {
namespace {

void draw_x_ticks(Svg& svg, const PlotFrame& frame) {
  double free_from = -1e9;
  for (const Tick& tick : frame.x.ticks(9)) {
    const double x = frame.x.at(tick.value);
    svg.line({x, frame.top}, {x, frame.bottom}, tick.label.empty() ? "grid-minor" : "grid");
    const double half = text_width(tick.label, 11) / 2;
    if (tick.label.empty() || x - half < free_from) continue;
    svg.text({x, frame.bottom + 16}, tick.label, "tick", Anchor::kMiddle);
    free_from = x + half + 8;
  }
}

void draw_y_ticks(Svg& svg, const PlotFrame& frame) {
  const int most = std::max(3, static_cast<int>((frame.bottom - frame.top) / 32));
  for (const Tick& tick : frame.y.ticks(most)) {
    const double y = frame.y.at(tick.value);
    svg.line({frame.left, y}, {frame.right, y}, tick.label.empty() ? "grid-minor" : "grid");
    if (!tick.label.empty()) svg.text({frame.left - 7, y + 4}, tick.label, "tick", Anchor::kEnd);
  }
}

}  // namespace

void draw_frame(Svg& svg, const PlotFrame& frame, std::string_view x_title,
                std::string_view y_title) {
  draw_x_ticks(svg, frame);
  draw_y_ticks(svg, frame);
  svg.line({frame.left, frame.bottom}, {frame.right, frame.bottom}, "axis");
  svg.line({frame.left, frame.top}, {frame.left, frame.bottom}, "axis");
  svg.text({(frame.left + frame.right) / 2, frame.bottom + 36}, x_title, "axis-title",
           Anchor::kMiddle);
  if (!y_title.empty())
    svg.vertical_text({frame.left - 56, (frame.top + frame.bottom) / 2}, y_title, "axis-title");
}

double draw_legend(Svg& svg, Xy at, double width, const std::vector<std::string>& names) {
  constexpr double kLine = 18;
  double x = at.x, y = at.y;
  for (std::size_t i = 0; i < names.size(); ++i) {
    const double needed = 16 + text_width(names[i], 12) + 16;
    if (x > at.x && x + needed > at.x + width) {
      x = at.x;
      y += kLine;
    }
    svg.marker({x + 6, y}, i);
    svg.text({x + 16, y + 4}, names[i], "muted");
    x += needed;
  }
  return names.empty() ? 0 : y - at.y + kLine;
}

}  // namespace calque::report
