#include "report/labels.h"

#include <gtest/gtest.h>

#include <random>

namespace calque::report {
namespace {

constexpr Box kBounds{0, 0, 600, 400};

void expect_no_overlap(const LabelTask& task) {
  const auto placed = place_labels(task);
  for (std::size_t i = 0; i < placed.size(); ++i) {
    if (!placed[i]) continue;
    const Box& box = placed[i]->box;
    EXPECT_GE(box.left, kBounds.left);
    EXPECT_LE(box.right, kBounds.right);
    for (std::size_t j = 0; j < placed.size(); ++j) {
      const Xy p = task.points[j];
      EXPECT_EQ(overlap(box, {p.x - 5, p.y - 5, p.x + 5, p.y + 5}), 0) << i << " covers " << j;
      if (j == i || !placed[j]) continue;
      EXPECT_EQ(overlap(box, placed[j]->box), 0) << i << " and " << j;
    }
  }
}

TEST(Labels, OneStandsToTheRightOfItsPoint) {
  const auto placed = place_labels({kBounds, {{100, 100}}, {"a"}, {}, 11});
  ASSERT_TRUE(placed[0]);
  EXPECT_GT(placed[0]->box.left, 100);
  EXPECT_FALSE(placed[0]->leader);
}

TEST(Labels, AtTheRightEdgeItStandsElsewhere) {
  const auto placed = place_labels({kBounds, {{595, 100}}, {"label"}, {}, 11});
  ASSERT_TRUE(placed[0]);
  EXPECT_LT(placed[0]->box.right, 600);
}

TEST(Labels, CrowdedOnesCoverNeitherEachOtherNorPoints) {
  std::mt19937 random(7);
  std::uniform_real_distribution<double> x(150, 350), y(100, 250);
  LabelTask task{kBounds, {}, {}, {}, 11};
  for (int i = 0; i < 24; ++i) {
    task.points.push_back({x(random), y(random)});
    task.labels.push_back("model-" + std::to_string(i));
  }
  expect_no_overlap(task);
}

TEST(Labels, PointsAtOnePlaceKeepTheLabelsThatFit) {
  LabelTask task{kBounds, {{300, 200}, {300, 200}, {301, 200}}, {"one", "two", "three"}, {}, 11};
  expect_no_overlap(task);
  for (const auto& label : place_labels(task)) EXPECT_TRUE(label);
}

}  // namespace
}  // namespace calque::report
