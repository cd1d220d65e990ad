#include "report/sweep_keys.h"

#include <algorithm>
#include <charconv>
#include <limits>
#include <optional>

#include "report/svg_style.h"

namespace calque::report {
namespace {

std::optional<double> number_of(const std::string& text) {
  double value = 0;
  const auto end = text.data() + text.size();
  const auto parsed = std::from_chars(text.data(), end, value);
  if (text.empty() || parsed.ec != std::errc() || parsed.ptr != end) return {};
  return value == -1 ? std::numeric_limits<double>::infinity() : value;
}

}  // namespace

std::vector<std::string> values_of(const Sweep& sweep, const std::string& key) {
  std::vector<std::string> values;
  for (const SweepPoint& point : sweep.points)
    if (std::ranges::find(values, point.cell(key)) == values.end())
      values.push_back(point.cell(key));
  if (std::ranges::all_of(values, [](const std::string& v) { return number_of(v).has_value(); }))
    std::ranges::sort(values, {}, [](const std::string& v) { return *number_of(v); });
  return values;
}

std::string colour_key(const Sweep& sweep) {
  std::string any;
  for (const std::string& key : sweep.swept) {
    const std::size_t count = values_of(sweep, key).size();
    if (count < 2 || count > kSeriesCount) continue;
    if (short_key(key) != "bits" && short_key(key) != "type") return key;
    if (any.empty()) any = key;
  }
  return any;
}

std::string short_key(const std::string& key) { return key.substr(key.rfind('.') + 1); }

}  // namespace calque::report
