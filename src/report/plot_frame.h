#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "report/scale.h"
#include "report/svg.h"

namespace calque::report {

// The rectangle that data is drawn in, with its two scales.
struct PlotFrame {
  double left = 0, top = 0, right = 0, bottom = 0;
  Scale x, y;
};

// Grid lines, ticks with labels, axes and their titles. Labels of x are left out where they would
// touch the one before.
void draw_frame(Svg& svg, const PlotFrame& frame, std::string_view x_title,
                std::string_view y_title);

// A row of markers with names, from `at` to the right, in as many lines as it takes; the height
// that they take.
double draw_legend(Svg& svg, Xy at, double width, const std::vector<std::string>& names);

}  // namespace calque::report
