#include "report/scale.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>

namespace calque::report {
namespace {

constexpr std::array<double, 3> kRound = {1, 2, 5};
constexpr double kNear = 1e-9;  // relative: sums of steps are not exact

// The smallest 1-2-5 step that cuts `span` into at most `most` pieces.
double step_for(double span, int most) {
  const double least = span / most;
  const double decade = std::pow(10.0, std::floor(std::log10(least)));
  for (const double factor : {1.0, 2.0, 5.0})
    if (factor * decade >= least * (1 - kNear)) return factor * decade;
  return 10 * decade;
}

// The nearest of 1, 2, 5 times a power of ten at or beyond `value`.
double round_out(double value, bool up) {
  const double decade = std::pow(10.0, std::floor(std::log10(value) + kNear));
  double below = decade;
  for (const double factor : {1.0, 2.0, 5.0, 10.0}) {
    const double candidate = factor * decade;
    if (up && candidate >= value * (1 - kNear)) return candidate;
    if (!up && candidate > value * (1 + kNear)) return below;
    below = candidate;
  }
  return below;
}

}  // namespace

std::string number_text(double value, int digits) {
  std::string text = fmt::format("{:.{}g}", value, digits);
  const auto e = text.find('e');
  if (e == std::string::npos) return text;
  const int exponent = std::stoi(text.substr(e + 1));
  if (exponent > 0 && exponent < 7) return fmt::format("{:.0f}", value);
  return fmt::format("{}e{}", text.substr(0, e), exponent);
}

Scale Scale::linear(double low, double high, double from_pixel, double to_pixel) {
  if (high <= low) {
    const double margin = low == 0 ? 1 : std::abs(low) * 0.1;
    low -= margin;
    high += margin;
  }
  const double step = step_for(high - low, 8);
  return {false, std::floor(low / step + kNear) * step, std::ceil(high / step - kNear) * step,
          from_pixel, to_pixel};
}

Scale Scale::log(double low, double high, double from_pixel, double to_pixel) {
  double first = round_out(low, false), last = round_out(high, true);
  if (first == last) {
    first = round_out(first * 0.5, false);
    last = round_out(last * 2, true);
  }
  return {true, first, last, from_pixel, to_pixel};
}

double Scale::at(double value) const {
  const double inside = std::clamp(value, low_, high_);
  const double share =
      log_ ? std::log(inside / low_) / std::log(high_ / low_) : (inside - low_) / (high_ - low_);
  return from_ + share * (to_ - from_);
}

std::vector<Tick> Scale::ticks(int most) const {
  if (log_) return log_ticks(most);
  const double step = step_for(high_ - low_, most);
  std::vector<Tick> ticks;
  for (double i = std::ceil(low_ / step - kNear); i * step <= high_ + step * kNear; ++i)
    ticks.push_back({i * step, number_text(i * step, 6)});
  return ticks;
}

std::vector<Tick> Scale::log_ticks(int most) const {
  const double decades = std::log10(high_ / low_);
  const bool label_all = decades * 3 <= most;
  const int every = std::max(1, static_cast<int>(std::ceil(decades / most)));
  std::vector<Tick> ticks;
  for (int e = static_cast<int>(std::floor(std::log10(low_) + kNear));
       std::pow(10.0, e) <= high_ * (1 + kNear); ++e)
    for (const double factor : kRound) {
      const double value = factor * std::pow(10.0, e);
      if (value < low_ * (1 - kNear) || value > high_ * (1 + kNear)) continue;
      const bool labelled = label_all || (factor == 1 && e % every == 0);
      ticks.push_back({value, labelled ? number_text(value) : ""});
    }
  return ticks;
}

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
