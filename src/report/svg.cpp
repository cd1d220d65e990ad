#include "report/svg.h"

#include <fmt/format.h>

#include <cmath>
#include <numbers>

#include "report/svg_style.h"

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

// A regular polygon, or a star where `inner` < 1.
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

}  // namespace calque::report
