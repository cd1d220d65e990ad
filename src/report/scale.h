#pragma once

#include <string>
#include <vector>

namespace calque::report {

struct Tick {
  double value = 0;
  std::string label;  // "": a minor one
};

// "0.05", "12", "1e-5": the shortest that is exact to `digits` digits.
std::string number_text(double value, int digits = 3);

// Values to pixels, linearly or by their logarithm.
class Scale {
 public:
  // Widened to round ends: tick values of linear scales, 1-2-5 of logarithmic ones. Values must be
  // finite, and positive for log; `low` == `high` is widened, too.
  static Scale linear(double low, double high, double from_pixel, double to_pixel);
  static Scale log(double low, double high, double from_pixel, double to_pixel);

  // Beyond the ends: the end.
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

}  // namespace calque::report
