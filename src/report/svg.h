#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

namespace calque::report {

// Escapes `&`, `<`, `>` and quotes for text and attribute values of HTML and SVG. Characters that
// XML cannot represent become '?'.
std::string escaped(std::string_view text);

struct Xy {
  double x = 0;
  double y = 0;
};

enum class Anchor { kStart, kMiddle, kEnd };

// Approximate width of `text` in a sans-serif font, in pixels; rather too large than too small.
double text_width(std::string_view text, double font_size);

constexpr double kPlotWidth = 550;  // pixels, of every plot

// An SVG picture, written element by element. Coordinates are pixels, y points down. Elements have
// a CSS class (below), so that one picture serves light, dark and print.
class Svg {
 public:
  // `title` and `description` are for screen readers.
  Svg(double width, double height, std::string_view title, std::string_view description);

  void line(Xy from, Xy to, std::string_view css_class);
  void polyline(const std::vector<Xy>& points, std::string_view css_class);
  void rect(Xy corner, double width, double height, std::string_view css_class,
            std::string_view fill = "", std::string_view tooltip = "");
  void circle(Xy centre, double radius, std::string_view css_class, std::string_view tooltip = "");
  // A marker with the series' own shape: circle, square, triangle, diamond, ...
  void marker(Xy centre, std::size_t series, std::string_view tooltip = "");
  void text(Xy at, std::string_view words, std::string_view css_class,
            Anchor anchor = Anchor::kStart);
  // Text that reads upwards.
  void vertical_text(Xy at, std::string_view words, std::string_view css_class);

  double width() const { return width_; }
  double height() const { return height_; }
  std::string title() const { return title_; }
  // For a page that contains the style.
  std::string inline_text() const;
  // As a file of its own.
  std::string file_text() const;

 private:
  void element(std::string_view name, const std::string& attributes, std::string_view tooltip);

  double width_;
  double height_;
  std::string title_;
  std::string description_;
  std::string body_;
};

// Series differ in color and shape: Okabe and Ito's palette, in an order in which neighbors differ
// most, lighter on dark background. Beyond kSeriesCount they repeat.
inline constexpr std::size_t kSeriesCount = 8;
std::string series_class(std::size_t series);  // "s0" ... "s7"

// Custom properties (--ink, --s0, ...) for light background, dark background and paper.
extern const std::string_view kColourStyle;
// The classes that plots use.
extern const std::string_view kPlotStyle;

// A perceptually even ramp from dark blue over green to yellow (viridis), for 0 to 1: "#21918c".
std::string ramp_colour(double share);

}  // namespace calque::report
