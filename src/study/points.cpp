#include "calque/study/points.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <set>
#include <string>

#include "calque/core/error.h"

namespace calque::study {
namespace {

using config::Exclusion;
using config::Setting;
using config::Settings;
using config::SweepAxis;

// Every combination, the last axis changing fastest; of no axes the empty one.
std::vector<Settings> product(const std::vector<SweepAxis>& axes) {
  std::vector<Settings> combinations(1);
  for (const SweepAxis& axis : axes) {
    std::vector<Settings> longer;
    for (const Settings& so_far : combinations)
      for (const std::string& value : axis.values) {
        longer.push_back(so_far);
        longer.back().push_back({axis.path, value});
      }
    combinations = std::move(longer);
  }
  return combinations;
}

std::vector<Settings> with_paired(std::vector<Settings> grid, const std::vector<Settings>& paired) {
  if (paired.empty()) return grid;
  std::vector<Settings> all;
  for (const Settings& settings : grid)
    for (const Settings& entry : paired) {
      all.push_back(settings);
      all.back().insert(all.back().end(), entry.begin(), entry.end());
    }
  return all;
}

bool has(const std::vector<std::string>& values, const std::string& value) {
  return std::find(values.begin(), values.end(), value) != values.end();
}

bool excludes(const Exclusion& exclusion, const Settings& point) {
  return std::all_of(exclusion.begin(), exclusion.end(), [&](const SweepAxis& axis) {
    return std::any_of(point.begin(), point.end(), [&](const Setting& setting) {
      return setting.path == axis.path && has(axis.values, setting.value);
    });
  });
}

// A typing error in a value would exclude nothing, silently.
void check_exclusion(const Exclusion& exclusion, const std::vector<Settings>& points) {
  for (const SweepAxis& axis : exclusion) {
    std::set<std::string> taken;
    for (const Settings& point : points)
      for (const Setting& setting : point)
        if (setting.path == axis.path) taken.insert(setting.value);
    for (const std::string& value : axis.values)
      if (taken.count(value) == 0)
        throw Error(ErrorKind::kConfig, "E184",
                    fmt::format("exclude names {}: {}, a value that no point has; values: {}",
                                axis.path, value, fmt::join(taken, ", ")));
  }
}

}  // namespace

std::vector<Point> expand(const config::SweepFile& sweep) {
  const std::vector<Settings> all = with_paired(product(sweep.grid), sweep.paired);
  for (const Exclusion& exclusion : sweep.exclude) check_exclusion(exclusion, all);
  std::vector<Point> points;
  for (const Settings& settings : all) {
    const bool excluded =
        std::any_of(sweep.exclude.begin(), sweep.exclude.end(),
                    [&](const Exclusion& exclusion) { return excludes(exclusion, settings); });
    if (excluded) continue;
    points.push_back({static_cast<int>(points.size()) + 1, settings, product(sweep.replicates)});
  }
  if (points.empty())
    throw Error(ErrorKind::kConfig, "E184", "exclude leaves no point of the sweep");
  return points;
}

}  // namespace calque::study
