#include "calque/report/points.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "folders.h"

namespace calque::report {
namespace {

using ::testing::ElementsAre;

TEST(Points, OfARunAreItsArtifactsWithEveryText) {
  const testing::TempFolder folder;
  write_run(folder / "run");
  const std::vector<Point> points = load_points(folder / "run");
  ASSERT_EQ(points.size(), 2u);
  EXPECT_EQ(points[0].label, "tiny-GPTQ");
  ASSERT_EQ(points[0].qualities.size(), 2u);
  EXPECT_EQ(points[0].qualities[1].text, "code");
  EXPECT_EQ(points[1].qualities.size(), 1u);
  EXPECT_EQ(points[1].usual_name, "Q4_K_M");
  EXPECT_DOUBLE_EQ(points[0].main()->perplexity_original, 42.0);
}

TEST(Points, OfASweepAreThoseThatAreDone) {
  const testing::TempFolder folder;
  write(folder / "sweep/results.csv", kResults);
  const std::vector<Point> points = load_points(folder / "sweep");
  ASSERT_EQ(points.size(), 3u);
  EXPECT_EQ(points[0].label, "3b g128");
  EXPECT_EQ(points[1].usual_name, "GPTQ 3 bit per row");
  EXPECT_THAT(points[2].key_values, ElementsAre("4", "128"));
  EXPECT_DOUBLE_EQ(points[0].main()->kl_error(), 0.0004);  // the replicates' spread
  EXPECT_DOUBLE_EQ(points[0].qualities[1].kl_mean.value, 0.04);
}

TEST(ParetoFront, HoldsWhatNoOtherBeatsInBoth) {
  // By hand: (3, 5) is beaten by (2, 4); (4, 4) loses to (2, 4) in size alone.
  EXPECT_THAT(pareto_front({{4, 1}, {3, 5}, {2, 4}, {4, 4}, {1, 9}}), ElementsAre(4, 2, 0));
}

TEST(ParetoFront, OfEqualsTakesTheFirst) {
  EXPECT_THAT(pareto_front({{1, 1}, {1, 1}}), ElementsAre(0));
}

}  // namespace
}  // namespace calque::report
