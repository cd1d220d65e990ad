#pragma once

#include <string_view>

namespace calque::report {

extern const std::string_view kPageStyle;  // CSS, beside kColourStyle and kPlotStyle
extern const std::string_view
    kPageScript;  // sorts tables by their titles; opens what is folded to print

}  // namespace calque::report
