#include "report/scale.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace calque::report {
namespace {

using ::testing::ElementsAre;

std::vector<std::string> labels(const Scale& scale, int most) {
  std::vector<std::string> result;
  for (const Tick& tick : scale.ticks(most))
    if (!tick.label.empty()) result.push_back(tick.label);
  return result;
}

TEST(Scale, LogTicksAreOneTwoFive) {
  EXPECT_THAT(labels(Scale::log(0.002, 0.1, 0, 100), 9),
              ElementsAre("0.002", "0.005", "0.01", "0.02", "0.05", "0.1"));
}

TEST(Scale, ManyDecadesLabelPowersOfTen) {
  EXPECT_THAT(labels(Scale::log(1e-6, 1, 0, 100), 7),
              ElementsAre("1e-6", "1e-5", "0.0001", "0.001", "0.01", "0.1", "1"));
}

TEST(Scale, LogEndsWidenToOneTwoFive) {
  const Scale scale = Scale::log(0.0031, 0.07, 0, 100);
  EXPECT_DOUBLE_EQ(scale.low(), 0.002);
  EXPECT_DOUBLE_EQ(scale.high(), 0.1);
}

TEST(Scale, LogHalvesWhereTheGeometricMeanIs) {
  EXPECT_NEAR(Scale::log(0.01, 1, 0, 100).at(0.1), 50, 1e-9);
}

TEST(Scale, LinearTicksAreRound) {
  EXPECT_THAT(labels(Scale::linear(2.2, 8.4, 0, 100), 8),
              ElementsAre("2", "3", "4", "5", "6", "7", "8", "9"));
}

TEST(Scale, OneValueStillHasARange) {
  EXPECT_LT(Scale::linear(4, 4, 0, 100).low(), Scale::linear(4, 4, 0, 100).high());
  EXPECT_LT(Scale::log(0.1, 0.1, 0, 100).low(), Scale::log(0.1, 0.1, 0, 100).high());
}

TEST(Scale, ValuesBeyondTheEndsStayAtThem) {
  EXPECT_DOUBLE_EQ(Scale::log(0.01, 1, 0, 100).at(1e-9), 0);
}

TEST(NumberText, IsShort) {
  EXPECT_EQ(number_text(0.00001), "1e-5");
  EXPECT_EQ(number_text(0.0042101), "0.00421");
  EXPECT_EQ(number_text(12345), "12345");
}

}  // namespace
}  // namespace calque::report
