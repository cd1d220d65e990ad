#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "report/svg.h"

namespace calque::report {

struct Tick {
  double value = 0;
  std::string label;  // "": a minor tick
};

// "0.05", "12", "1e-5": the shortest text that is exact to `digits` digits.
std::string number_text(double value, int digits = 3);

// Maps values to pixels, linearly or logarithmically.
class Scale {
 public:
  // Widened to round ends: tick values for linear scales, 1-2-5 for logarithmic ones. Values must
  // be finite, and positive for log. `low` == `high` is widened, too.
  static Scale linear(double low, double high, double from_pixel, double to_pixel);
  static Scale log(double low, double high, double from_pixel, double to_pixel);

  // Values beyond an end map to that end.
  double at(double value) const;
  double low() const { return low_; }
  double high() const { return high_; }
  // Linear: 1-2-5 steps. Log: labels at 1, 2, 5 up to two and a half decades, else at powers of ten
  // with minor ticks at 2 and 5; no more than about `most` labels.
  std::vector<Tick> ticks(int most) const;

 private:
  Scale(bool log, double low, double high, double from, double to)
      : log_(log), low_(low), high_(high), from_(from), to_(to) {}
  std::vector<Tick> log_ticks(int most) const;

  bool log_;
  double low_, high_, from_, to_;
};

// The rectangle that data is drawn in, with its two scales.
struct PlotFrame {
  double left = 0, top = 0, right = 0, bottom = 0;
  Scale x, y;
};

// Draws grid lines, ticks with labels, axes and their titles. Labels of x are left out if they
// would touch the previous one.
void draw_frame(Svg& svg, const PlotFrame& frame, std::string_view x_title,
                std::string_view y_title);

// Draws markers with names from `at` to the right, in as many lines as needed; returns the height.
double draw_legend(Svg& svg, Xy at, double width, const std::vector<std::string>& names);

}  // namespace calque::report
