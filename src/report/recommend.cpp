#include "calque/report/recommend.h"

#include <fmt/format.h>

#include <algorithm>

#include "calque/core/error.h"
#include "calque/core/units.h"
#include "report/scale.h"

namespace calque::report {
namespace {

// KL divergence in nats, with what they are good for.
struct UsualBound {
  double kl;
  const char* need;
};
constexpr UsualBound kUsualBounds[] = {
    {0.001, "nearly indistinguishable: KL up to 0.001"},
    {0.01, "small loss: KL up to 0.01"},
    {0.05, "visible loss: KL up to 0.05"},
};

double kl_of(const Point& point) { return point.main()->kl_mean.value; }

bool within(const Point& point, const Bounds& bounds) {
  return kl_of(point) <= bounds.max_kl.value_or(kl_of(point)) &&
         point.bytes <= bounds.max_bytes.value_or(point.bytes) &&
         point.bits_per_weight <= bounds.max_bits_per_weight.value_or(point.bits_per_weight);
}

const Point* smallest_within(const std::vector<Point>& points, const Bounds& bounds) {
  const Point* best = nullptr;
  for (const Point& p : points)
    if (within(p, bounds) &&
        (best == nullptr || std::pair(p.bytes, kl_of(p)) < std::pair(best->bytes, kl_of(*best))))
      best = &p;
  return best;
}

const Point* closest_within(const std::vector<Point>& points, const Bounds& bounds) {
  const Point* best = nullptr;
  for (const Point& p : points)
    if (within(p, bounds) &&
        (best == nullptr || std::pair(kl_of(p), p.bytes) < std::pair(kl_of(*best), best->bytes)))
      best = &p;
  return best;
}

std::string text_of(const Bounds& bounds) {
  std::string text;
  const auto add = [&](const std::string& part) { text += (text.empty() ? "" : ", ") + part; };
  if (bounds.max_kl) add("KL up to " + number_text(*bounds.max_kl));
  if (bounds.max_bytes) add("up to " + bytes_text(*bounds.max_bytes));
  if (bounds.max_bits_per_weight)
    add(fmt::format("up to {} bits/weight", number_text(*bounds.max_bits_per_weight)));
  return text;
}

Advice within_bounds(const std::vector<Point>& points, const Bounds& bounds) {
  const bool by_size = bounds.max_bytes || bounds.max_bits_per_weight;
  const Point* best = by_size ? closest_within(points, bounds) : smallest_within(points, bounds);
  if (best != nullptr)
    return {(by_size ? "closest to the original, " : "smallest, ") + text_of(bounds), *best};
  const Point& smallest = *smallest_within(points, {});
  const Point& closest = *closest_within(points, {});
  throw Error(
      ErrorKind::kConfig, "E254",
      fmt::format("no measured model is within the bounds ({}). The smallest is {} ({}, {:.2f} "
                  "bits/weight, KL {}), the closest {} ({}, {:.2f} bits/weight, KL {}). Relax "
                  "a bound, or measure other settings",
                  text_of(bounds), smallest.label, bytes_text(smallest.bytes),
                  smallest.bits_per_weight, number_text(kl_of(smallest)), closest.label,
                  bytes_text(closest.bytes), closest.bits_per_weight, number_text(kl_of(closest))));
}

std::vector<Advice> for_usual_needs(const std::vector<Point>& points) {
  std::vector<Advice> advice = {{"closest to the original", *closest_within(points, {})}};
  for (const UsualBound& usual : kUsualBounds)
    if (const Point* best = smallest_within(points, {.max_kl = usual.kl}))
      advice.push_back({usual.need, *best});
  advice.push_back({"smallest of all", *smallest_within(points, {})});
  return advice;
}

std::vector<Point> front_of(const std::vector<Point>& points) {
  std::vector<Cost> costs;
  for (const Point& p : points) costs.push_back({static_cast<double>(p.bytes), kl_of(p)});
  std::vector<Point> front;
  for (const std::size_t i : pareto_front(costs)) front.push_back(points[i]);
  return front;
}

}  // namespace

Recommendation recommend(const std::vector<Point>& all, const Bounds& bounds) {
  std::vector<Point> points;
  for (const Point& p : all)
    if (p.main() != nullptr && p.main()->has_kl) points.push_back(p);
  if (points.empty())
    throw Error(
        ErrorKind::kConfig, "E253",
        "nothing was measured: no model here has a KL divergence. Add 'evaluate' to the job, "
        "or let the run finish");
  Recommendation result;
  result.advice =
      bounds.any() ? std::vector<Advice>{within_bounds(points, bounds)} : for_usual_needs(points);
  result.front = front_of(points);
  return result;
}

}  // namespace calque::report
