#include "report/svg_style.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>

namespace calque::report {

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
