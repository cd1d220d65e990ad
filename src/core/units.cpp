#include "calque/core/units.h"

#include <fmt/format.h>

#include <array>
#include <cmath>
#include <cstddef>
#include <string_view>

namespace calque {

namespace {

using Units = std::array<std::string_view, 6>;

std::string scaled(std::uint64_t bytes, double step, const Units& units) {
  double value = static_cast<double>(bytes);
  if (value < step) return fmt::format("{} B", bytes);
  value /= step;
  std::size_t unit = 0;
  for (; value >= step - 0.5 && unit + 1 < units.size(); ++unit) value /= step;
  const int decimals = value >= 99.95 ? 0 : value >= 9.995 ? 1 : 2;
  return fmt::format("{:.{}f} {}", value, decimals, units[unit]);
}

}  // namespace

std::string bytes_text(std::uint64_t bytes) {
  return scaled(bytes, 1024, {"KiB", "MiB", "GiB", "TiB", "PiB", "EiB"});
}

std::string decimal_bytes_text(std::uint64_t bytes) {
  return scaled(bytes, 1000, {"kB", "MB", "GB", "TB", "PB", "EB"});
}

std::string with_commas(std::uint64_t number) {
  std::string text = fmt::format("{}", number);
  for (std::size_t at = text.size(); at > 3;) text.insert(at -= 3, ",");
  return text;
}

std::string duration_text(double seconds) {
  if (seconds < 9.95) return fmt::format("{:.1f} s", seconds);
  const auto whole = std::llround(seconds);
  if (whole < 60) return fmt::format("{} s", whole);
  if (whole < 3600) return fmt::format("{}m{:02}s", whole / 60, whole % 60);
  return fmt::format("{}h{:02}m", whole / 3600, whole / 60 % 60);
}

}  // namespace calque
