#include "report/labels.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <numbers>

namespace calque::report {
namespace {

// Angles in degrees, in order of preference: right, left, and so on around.
constexpr std::array<double, 12> kAngles = {0,   180, -35, 35, -145, 145,
                                            -90, 90,  -65, 65, -115, 115};
constexpr std::array<double, 7> kDistances = {9, 13, 19, 27, 38, 52, 70};
constexpr double kLeaderFrom = 19;
constexpr double kMarkerRadius = 6;
constexpr int kRounds = 4;
constexpr double kUnbearable = 1e4;  // covers a label or a point

Box box_around(Xy point) {
  return {point.x - kMarkerRadius, point.y - kMarkerRadius, point.x + kMarkerRadius,
          point.y + kMarkerRadius};
}

Xy nearest_in(const Box& box, Xy p) {
  return {std::clamp(p.x, box.left, box.right), std::clamp(p.y, box.top, box.bottom)};
}

// A box of the label's size whose nearest place is `distance` from the point in that direction.
PlacedLabel candidate(Xy point, double width, double height, double distance, double degrees) {
  const double angle = degrees * std::numbers::pi / 180;
  const Xy to{point.x + distance * std::cos(angle), point.y + distance * std::sin(angle)};
  const double across = std::cos(angle), down = std::sin(angle);
  const double left = across > 0.3 ? to.x : across < -0.3 ? to.x - width : to.x - width / 2;
  const double top = down > 0.5 ? to.y : down < -0.5 ? to.y - height : to.y - height / 2;
  PlacedLabel label;
  label.box = {left, top, left + width, top + height};
  label.text_at = {left, top + height * 0.78};
  label.leader = distance >= kLeaderFrom;
  label.leader_end = nearest_in(label.box, point);
  return label;
}

class Placement {
 public:
  explicit Placement(const LabelTask& task) : task_(task), placed_(task.points.size()) {}

  std::vector<std::optional<PlacedLabel>> run() {
    for (int round = 0; round < kRounds; ++round)
      for (std::size_t i = 0; i < task_.points.size(); ++i)
        if (!task_.labels[i].empty()) place(i);
    drop_those_that_cover();
    return placed_;
  }

 private:
  void place(std::size_t i) {
    const double width = text_width(task_.labels[i], task_.font_size);
    const double height = task_.font_size * 1.15;
    double least = std::numeric_limits<double>::infinity();
    PlacedLabel best;
    for (std::size_t d = 0; d < kDistances.size(); ++d)
      for (std::size_t a = 0; a < kAngles.size(); ++a) {
        const PlacedLabel label =
            candidate(task_.points[i], width, height, kDistances[d], kAngles[a]);
        const double cost = cost_of(i, label) + kDistances[d] * 0.8 + static_cast<double>(a) * 0.7;
        if (cost < least) {
          least = cost;
          best = label;
        }
      }
    placed_[i] = best;
  }

  double cost_of(std::size_t i, const PlacedLabel& label) const {
    const Box& b = label.box;
    double cost = 0;
    if (b.left < task_.bounds.left || b.right > task_.bounds.right || b.top < task_.bounds.top ||
        b.bottom > task_.bounds.bottom)
      cost += 2 * kUnbearable;
    for (std::size_t j = 0; j < task_.points.size(); ++j) {
      if (overlap(b, box_around(task_.points[j])) > 0) cost += kUnbearable;
      if (j != i && placed_[j] && overlap(b, placed_[j]->box) > 0) cost += kUnbearable;
      if (j != i && placed_[j] && lines_cross(i, label, j)) cost += 150;
      if (j != i && label.leader && passes_near(task_.points[i], label.leader_end, task_.points[j]))
        cost += 60;
    }
    for (const Xy& o : task_.obstacles)
      if (o.x > b.left && o.x < b.right && o.y > b.top && o.y < b.bottom) cost += 4;
    return cost;
  }

  // True if the leader line of one of the two runs through the other's text.
  bool lines_cross(std::size_t i, const PlacedLabel& label, std::size_t j) const {
    return (label.leader && passes_through(task_.points[i], label.leader_end, placed_[j]->box)) ||
           (placed_[j]->leader &&
            passes_through(task_.points[j], placed_[j]->leader_end, label.box));
  }

  static bool passes_through(Xy from, Xy to, const Box& box) {
    const double length = std::hypot(to.x - from.x, to.y - from.y);
    for (double at = 0; at < length; at += 2) {
      const Xy p{from.x + at / length * (to.x - from.x), from.y + at / length * (to.y - from.y)};
      if (p.x > box.left && p.x < box.right && p.y > box.top && p.y < box.bottom) return true;
    }
    return false;
  }

  static bool passes_near(Xy from, Xy to, Xy point) {
    const double dx = to.x - from.x, dy = to.y - from.y;
    const double length = dx * dx + dy * dy;
    if (length == 0) return false;
    const double t =
        std::clamp(((point.x - from.x) * dx + (point.y - from.y) * dy) / length, 0.0, 1.0);
    return std::hypot(point.x - from.x - t * dx, point.y - from.y - t * dy) < kMarkerRadius;
  }

  void drop_those_that_cover() {
    for (std::size_t i = 0; i < placed_.size(); ++i)
      if (placed_[i] && cost_of(i, *placed_[i]) >= kUnbearable) placed_[i].reset();
  }

  const LabelTask& task_;
  std::vector<std::optional<PlacedLabel>> placed_;
};

}  // namespace

double overlap(const Box& a, const Box& b) {
  const double width = std::min(a.right, b.right) - std::max(a.left, b.left);
  const double height = std::min(a.bottom, b.bottom) - std::max(a.top, b.top);
  return width > 0 && height > 0 ? width * height : 0;
}

std::vector<std::optional<PlacedLabel>> place_labels(const LabelTask& task) {
  return Placement(task).run();
}

}  // namespace calque::report
