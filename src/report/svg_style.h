#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace calque::report {

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
