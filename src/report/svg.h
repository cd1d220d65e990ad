#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

namespace calque::report {

// `&`, `<`, `>` and quotes as entities: fit for text and attribute values of HTML and SVG.
// Characters that XML has no way to write become '?'.
std::string escaped(std::string_view text);

struct Xy {
  double x = 0;
  double y = 0;
};

enum class Anchor { kStart, kMiddle, kEnd };

// About how wide `text` is in a sans-serif face, in pixels; a little more rather than less.
double text_width(std::string_view text, double font_size);

// An SVG picture, written element by element. Coordinates in pixels, y downwards. Elements take a
// CSS class (below), so that one picture serves light, dark and print.
class Svg {
 public:
  // `title` and `description` are what a screen reader says.
  Svg(double width, double height, std::string_view title, std::string_view description);

  void line(Xy from, Xy to, std::string_view css_class);
  void polyline(const std::vector<Xy>& points, std::string_view css_class);
  void rect(Xy corner, double width, double height, std::string_view css_class,
            std::string_view fill = "", std::string_view tooltip = "");
  void circle(Xy centre, double radius, std::string_view css_class, std::string_view tooltip = "");
  // A marker of its own shape for each series: circle, square, triangle, diamond, ...
  void marker(Xy centre, std::size_t series, std::string_view tooltip = "");
  void text(Xy at, std::string_view words, std::string_view css_class,
            Anchor anchor = Anchor::kStart);
  // Reads upwards.
  void vertical_text(Xy at, std::string_view words, std::string_view css_class);

  double width() const { return width_; }
  double height() const { return height_; }
  std::string title() const { return title_; }
  // For a page that brings the style.
  std::string inline_text() const;
  // For a file of its own.
  std::string file_text() const;

 private:
  void element(std::string_view name, const std::string& attributes, std::string_view tooltip);

  double width_;
  double height_;
  std::string title_;
  std::string description_;
  std::string body_;
};

// Series are told apart by colour and by shape: Okabe and Ito's palette, in the order in which
// neighbours differ most, lighter on dark ground. Beyond kSeriesCount they repeat.
inline constexpr std::size_t kSeriesCount = 8;
std::string series_class(std::size_t series);  // "s0" ... "s7"

// Custom properties (--ink, --s0, ...) for light ground, dark ground and paper.
extern const std::string_view kColourStyle;
// The classes that plots use.
extern const std::string_view kPlotStyle;

// A perceptually even ramp, dark blue over green to yellow (viridis), for 0 to 1: "#21918c".
std::string ramp_colour(double share);

}  // namespace calque::report
