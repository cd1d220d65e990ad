#include "report/svg.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <numbers>

namespace calque::report {
namespace {

std::string attribute(std::string_view name, double value) {
  std::string text = fmt::format("{:.2f}", value);
  while (text.ends_with('0')) text.pop_back();
  if (text.ends_with('.')) text.pop_back();
  return fmt::format(" {}=\"{}\"", name, text == "-0" ? "0" : text);
}

std::string attribute(std::string_view name, std::string_view value) {
  return value.empty() ? "" : fmt::format(" {}=\"{}\"", name, escaped(value));
}

std::string path_of(const std::vector<Xy>& points, bool closed) {
  std::string path;
  for (const Xy& p : points)
    path += fmt::format("{}{:.2f} {:.2f}", path.empty() ? "M" : "L", p.x, p.y);
  return closed ? path + "Z" : path;
}

// A regular polygon, or a star if `inner` < 1.
std::vector<Xy> polygon(Xy centre, double radius, int corners, double turn, double inner = 1) {
  std::vector<Xy> points;
  const int steps = inner < 1 ? 2 * corners : corners;
  for (int i = 0; i < steps; ++i) {
    const double r = radius * (inner < 1 && i % 2 == 1 ? inner : 1);
    const double angle = turn + 2 * std::numbers::pi * i / steps;
    points.push_back({centre.x + r * std::sin(angle), centre.y - r * std::cos(angle)});
  }
  return points;
}

// Shapes of about the same area; 0 is a circle, drawn as such.
std::vector<Xy> shape(Xy centre, std::size_t kind) {
  constexpr double kPi = std::numbers::pi;
  switch (kind) {
    case 1:
      return polygon(centre, 6.2, 4, kPi / 4);  // square
    case 2:
      return polygon(centre, 6.8, 3, 0);  // triangle
    case 3:
      return polygon(centre, 6.4, 4, 0);  // diamond
    case 4:
      return polygon(centre, 6.8, 3, kPi);  // triangle, point down
    case 5:
      return polygon(centre, 7.2, 5, 0, 0.5);  // star
    case 6:
      return polygon(centre, 5.6, 6, 0);  // hexagon
    default:
      return polygon(centre, 7, 4, kPi / 4, 0.45);  // cross
  }
}

double em_of(unsigned char c) {
  if (c >= 0x80) return (c & 0xC0) == 0x80 ? 0 : 0.75;  // one for each code point
  if (std::string_view("iljI.,:;'|!").find(static_cast<char>(c)) != std::string_view::npos)
    return 0.3;
  if (std::string_view("ftr()[]/ -").find(static_cast<char>(c)) != std::string_view::npos)
    return 0.37;
  if (std::string_view("mwMW%@").find(static_cast<char>(c)) != std::string_view::npos) return 0.9;
  return c >= 'A' && c <= 'Z' ? 0.69 : 0.6;
}

}  // namespace

std::string escaped(std::string_view text) {
  std::string result;
  for (const char c : text) {
    switch (c) {
      case '&':
        result += "&amp;";
        break;
      case '<':
        result += "&lt;";
        break;
      case '>':
        result += "&gt;";
        break;
      case '"':
        result += "&quot;";
        break;
      case '\'':
        result += "&#39;";
        break;
      default:
        result += static_cast<unsigned char>(c) < 0x20 && c != '\n' && c != '\t' ? '?' : c;
    }
  }
  return result;
}

double text_width(std::string_view text, double font_size) {
  double em = 0;
  for (const char c : text) em += em_of(static_cast<unsigned char>(c));
  return em * font_size;
}

Svg::Svg(double width, double height, std::string_view title, std::string_view description)
    : width_(width), height_(height), title_(title), description_(description) {}

void Svg::element(std::string_view name, const std::string& attributes, std::string_view tooltip) {
  if (tooltip.empty())
    body_ += fmt::format("<{}{}/>\n", name, attributes);
  else
    body_ += fmt::format("<{0}{1}><title>{2}</title></{0}>\n", name, attributes, escaped(tooltip));
}

void Svg::line(Xy from, Xy to, std::string_view css_class) {
  element("line",
          attribute("x1", from.x) + attribute("y1", from.y) + attribute("x2", to.x) +
              attribute("y2", to.y) + attribute("class", css_class),
          "");
}

void Svg::polyline(const std::vector<Xy>& points, std::string_view css_class) {
  element("path", attribute("d", path_of(points, false)) + attribute("class", css_class), "");
}

void Svg::rect(Xy corner, double width, double height, std::string_view css_class,
               std::string_view fill, std::string_view tooltip) {
  element("rect",
          attribute("x", corner.x) + attribute("y", corner.y) + attribute("width", width) +
              attribute("height", height) + attribute("class", css_class) + attribute("fill", fill),
          tooltip);
}

void Svg::circle(Xy centre, double radius, std::string_view css_class, std::string_view tooltip) {
  element("circle",
          attribute("cx", centre.x) + attribute("cy", centre.y) + attribute("r", radius) +
              attribute("class", css_class),
          tooltip);
}

void Svg::marker(Xy centre, std::size_t series, std::string_view tooltip) {
  const std::string css_class = fmt::format("marker {}", series_class(series));
  if (series % kSeriesCount == 0) return circle(centre, 4.6, css_class, tooltip);
  element("path",
          attribute("d", path_of(shape(centre, series % kSeriesCount), true)) +
              attribute("class", css_class),
          tooltip);
}

void Svg::text(Xy at, std::string_view words, std::string_view css_class, Anchor anchor) {
  const char* name = anchor == Anchor::kStart ? "" : anchor == Anchor::kMiddle ? "middle" : "end";
  body_ +=
      fmt::format("<text{}{}{}{}>{}</text>\n", attribute("x", at.x), attribute("y", at.y),
                  attribute("class", css_class), attribute("text-anchor", name), escaped(words));
}

void Svg::vertical_text(Xy at, std::string_view words, std::string_view css_class) {
  body_ += fmt::format(
      "<text transform=\"translate({:.1f} {:.1f}) rotate(-90)\"{} text-anchor=\"middle\">{}"
      "</text>\n",
      at.x, at.y, attribute("class", css_class), escaped(words));
}

std::string Svg::inline_text() const {
  return fmt::format(
      "<svg class=\"plot\" viewBox=\"0 0 {0:.0f} {1:.0f}\" style=\"max-width:{0:.0f}px\" "
      "role=\"img\" aria-label=\"{2}\">\n<title>{2}</title>\n<desc>{3}</desc>\n{4}</svg>\n",
      width_, height_, escaped(title_), escaped(description_), body_);
}

std::string Svg::file_text() const {
  return fmt::format(
      "<svg xmlns=\"http://www.w3.org/2000/svg\" class=\"plot\" width=\"{0:.0f}\" "
      "height=\"{1:.0f}\" viewBox=\"0 0 {0:.0f} {1:.0f}\" role=\"img\" aria-label=\"{2}\">\n"
      "<title>{2}</title>\n<desc>{3}</desc>\n<style>\n{4}\n{5}</style>\n"
      "<rect class=\"paper\" width=\"100%\" height=\"100%\"/>\n{6}</svg>\n",
      width_, height_, escaped(title_), escaped(description_), kColourStyle, kPlotStyle, body_);
}

const std::string_view kColourStyle = R"(:root {
  --paper: #ffffff; --panel: #f6f7f9; --ink: #1b1f24; --muted: #5a6470; --rule: #d9dee4;
  --grid: #e8ebef; --accent: #0072b2; --bar: #8fb8d8;
  --s0: #0072b2; --s1: #d55e00; --s2: #009e73; --s3: #b0568f; --s4: #c98a00; --s5: #56b4e9;
  --s6: #7a7a7a; --s7: #1b1f24;
}
@media (prefers-color-scheme: dark) { :root {
  --paper: #14171b; --panel: #1d2126; --ink: #e7eaee; --muted: #a2acb8; --rule: #363d46;
  --grid: #2a3038; --accent: #56b4e9; --bar: #3f6f94;
  --s0: #56b4e9; --s1: #ff8a3d; --s2: #2fcf9f; --s3: #e29bc8; --s4: #f0c04a; --s5: #9fd6ff;
  --s6: #9aa3ad; --s7: #e7eaee;
} }
@media print { :root {
  --paper: #ffffff; --panel: #ffffff; --ink: #000000; --muted: #444444; --rule: #bbbbbb;
  --grid: #dddddd; --accent: #00568a; --bar: #a9c6dd;
  --s0: #0072b2; --s1: #d55e00; --s2: #009e73; --s3: #b0568f; --s4: #c98a00; --s5: #56b4e9;
  --s6: #7a7a7a; --s7: #000000;
} })";

const std::string_view kPlotStyle =
    R"(.plot { font: 12px system-ui, -apple-system, "Segoe UI", Roboto, "Liberation Sans", sans-serif; }
.plot text { fill: var(--ink); }
.plot .paper { fill: var(--paper); }
.plot .muted { fill: var(--muted); }
.plot .tick { fill: var(--muted); font-size: 11px; }
.plot .axis-title { fill: var(--muted); font-size: 12px; }
.plot .heading { font-size: 13px; font-weight: 600; }
.plot .label { font-size: 11px; paint-order: stroke; stroke: var(--paper); stroke-width: 3px; stroke-linejoin: round; }
.plot .small { font-size: 10px; }
.plot .axis { stroke: var(--muted); stroke-width: 1; }
.plot .grid { stroke: var(--grid); stroke-width: 1; }
.plot .grid-minor { stroke: var(--grid); stroke-width: 0.5; }
.plot .front { fill: none; stroke: var(--muted); stroke-width: 1.5; stroke-dasharray: 5 3; }
.plot .reference { stroke: var(--muted); stroke-width: 1.2; stroke-dasharray: 2 3; }
.plot .leader { stroke: var(--muted); stroke-width: 0.7; }
.plot .error-bar { stroke-width: 1.4; fill: none; }
.plot .curve { stroke-width: 1.8; fill: none; }
.plot .marker { stroke: var(--paper); stroke-width: 1; }
.plot .cell { stroke: var(--paper); stroke-width: 1; }
.plot .empty { fill: var(--panel); }
.plot .bar { fill: var(--bar); }
.plot .faint { opacity: 0.45; }
.plot .on-dark { fill: #ffffff; }
.plot .on-light { fill: #111111; }
.plot .predicted { fill: none; stroke: var(--ink); stroke-width: 1.4; }
.plot rect.s0, .plot .marker.s0 { fill: var(--s0); } .plot .stroke.s0 { stroke: var(--s0); }
.plot rect.s1, .plot .marker.s1 { fill: var(--s1); } .plot .stroke.s1 { stroke: var(--s1); }
.plot rect.s2, .plot .marker.s2 { fill: var(--s2); } .plot .stroke.s2 { stroke: var(--s2); }
.plot rect.s3, .plot .marker.s3 { fill: var(--s3); } .plot .stroke.s3 { stroke: var(--s3); }
.plot rect.s4, .plot .marker.s4 { fill: var(--s4); } .plot .stroke.s4 { stroke: var(--s4); }
.plot rect.s5, .plot .marker.s5 { fill: var(--s5); } .plot .stroke.s5 { stroke: var(--s5); }
.plot rect.s6, .plot .marker.s6 { fill: var(--s6); } .plot .stroke.s6 { stroke: var(--s6); }
.plot rect.s7, .plot .marker.s7 { fill: var(--s7); } .plot .stroke.s7 { stroke: var(--s7); }
)";

std::string series_class(std::size_t series) { return fmt::format("s{}", series % kSeriesCount); }

namespace {

// Viridis at steps of an eighth.
constexpr std::array<std::array<double, 3>, 9> kRamp = {{{68, 1, 84},
                                                         {71, 45, 123},
                                                         {59, 82, 139},
                                                         {44, 114, 142},
                                                         {33, 145, 140},
                                                         {40, 174, 128},
                                                         {94, 201, 98},
                                                         {173, 220, 48},
                                                         {253, 231, 37}}};

}  // namespace

std::string ramp_colour(double share) {
  const double at = std::clamp(share, 0.0, 1.0) * (kRamp.size() - 1);
  const auto low = std::min(static_cast<std::size_t>(at), kRamp.size() - 2);
  const double rest = at - static_cast<double>(low);
  std::array<int, 3> rgb{};
  for (std::size_t c = 0; c < 3; ++c)
    rgb[c] =
        static_cast<int>(std::lround(kRamp[low][c] + rest * (kRamp[low + 1][c] - kRamp[low][c])));
  return fmt::format("#{:02x}{:02x}{:02x}", rgb[0], rgb[1], rgb[2]);
}

}  // namespace calque::report
