#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "calque/core/error.h"
#include "calque/study/sweep_plan.h"

namespace calque::study {
namespace {

using config::Setting;
using config::Settings;
using ::testing::ElementsAre;

const std::string kBits = "quantization.bits";
const std::string kGroup = "quantization.group_size";
const std::string kSym = "quantization.sym";
const std::string kDesc = "export.0.desc_act";

// 4 bit widths x 4 group sizes x 2 pairs; 8 bits with groups of 32 and 64 are left out: 4 points.
config::SweepFile ablation() {
  config::SweepFile sweep;
  sweep.grid = {{kBits, {"2", "3", "4", "8"}}, {kGroup, {"32", "64", "128", "-1"}}};
  sweep.paired = {{{kSym, "true"}, {kDesc, "false"}}, {{kSym, "false"}, {kDesc, "true"}}};
  sweep.exclude = {{{kBits, {"8"}}, {kGroup, {"32", "64"}}}};
  sweep.replicates = {{"calibration.seed", {"0", "1", "2"}}};
  return sweep;
}

TEST(Points, AreTheProductOfGridAndPairsWithoutTheExcluded) {
  const std::vector<Point> points = expand(ablation());
  EXPECT_EQ(points.size(), 28u);  // 4 x 4 x 2 - 4
  std::size_t runs = 0;
  for (const Point& point : points) runs += point.replicates.size();
  EXPECT_EQ(runs, 84u);
}

TEST(Points, ChangeTheLastKeyFastestAndThePairsFasterStill) {
  const std::vector<Point> points = expand(ablation());
  EXPECT_THAT(points[0].settings, ElementsAre(Setting{kBits, "2"}, Setting{kGroup, "32"},
                                              Setting{kSym, "true"}, Setting{kDesc, "false"}));
  EXPECT_THAT(points[1].settings, ElementsAre(Setting{kBits, "2"}, Setting{kGroup, "32"},
                                              Setting{kSym, "false"}, Setting{kDesc, "true"}));
  EXPECT_THAT(points[2].settings, ElementsAre(Setting{kBits, "2"}, Setting{kGroup, "64"},
                                              Setting{kSym, "true"}, Setting{kDesc, "false"}));
  // 24 points have 2 to 4 bits; then 8 bits begin with groups of 128.
  EXPECT_THAT(points[24].settings, ElementsAre(Setting{kBits, "8"}, Setting{kGroup, "128"},
                                               Setting{kSym, "true"}, Setting{kDesc, "false"}));
  for (std::size_t i = 0; i < points.size(); ++i)
    EXPECT_EQ(points[i].number, static_cast<int>(i) + 1);
}

TEST(Points, RunOncePerCombinationOfReplicates) {
  config::SweepFile sweep = ablation();
  EXPECT_THAT(expand(sweep)[5].replicates[2], ElementsAre(Setting{"calibration.seed", "2"}));
  sweep.replicates = {};
  EXPECT_THAT(expand(sweep)[5].replicates, ElementsAre(Settings{}));
}

TEST(Points, OfPairsAloneNeedNoGrid) {
  config::SweepFile sweep = ablation();
  sweep.grid.clear();
  sweep.exclude.clear();
  EXPECT_EQ(expand(sweep).size(), 2u);
}

// Every key of an entry must agree; several entries exclude what any of them names.
TEST(Points, AreExcludedByAWholeEntry) {
  config::SweepFile sweep = ablation();
  sweep.exclude = {{{kBits, {"2"}}, {kSym, {"false"}}}, {{kGroup, {"-1"}}}};
  // 4 of 2 bits without symmetry, 8 with one group, of which one is both: 32 - 4 - 8 + 1.
  EXPECT_EQ(expand(sweep).size(), 21u);
}

TEST(Points, ThatNoPointHasCannotBeExcluded) {
  config::SweepFile sweep = ablation();
  sweep.exclude = {{{kBits, {"5"}}}};
  try {
    expand(sweep);
    FAIL() << "accepted";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), "E184");
    EXPECT_STREQ(error.what(),
                 "exclude names quantization.bits: 5, a value that no point has; values: 2, 3, 4, "
                 "8");
  }
}

TEST(Points, MustBeLeft) {
  config::SweepFile sweep = ablation();
  sweep.exclude = {{{kSym, {"true", "false"}}}};
  EXPECT_THROW(expand(sweep), Error);
}

}  // namespace
}  // namespace calque::study
