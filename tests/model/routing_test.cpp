#include "calque/model/routing.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <random>

#include "model/naive_block.h"

namespace calque::model {
namespace {

using ::testing::ElementsAre;

using Row = std::vector<double>;

std::vector<RoutedTo> chosen(const Routing& routing, std::vector<float> scores,
                             const std::vector<float>& bias = {}) {
  return routing.choose(scores, bias);
}

std::vector<Index> experts_of(const std::vector<RoutedTo>& chosen) {
  std::vector<Index> experts;
  for (const RoutedTo& to : chosen) experts.push_back(to.expert);
  return experts;
}

struct Scheme {
  const char* name;
  Routing routing;
  bool bias;
};

class EveryRouting : public ::testing::TestWithParam<Scheme> {};
constexpr auto kSigmoid = Routing::Scores::kSigmoid;
INSTANTIATE_TEST_SUITE_P(
    Schemes, EveryRouting,
    ::testing::Values(Scheme{"softmax", {.used = 3}, false},
                      Scheme{"chosen", {.used = 3, .normalize = true}, false},
                      Scheme{"ernie", {.used = 2, .normalize = true, .sum_floor = 1e-12}, true},
                      Scheme{"glm", {kSigmoid, 3, 1, 1, true, 0, 1e-20, 2.5}, true},
                      Scheme{"unscaled", {.scores = kSigmoid, .used = 2, .scale = 1.5}, true},
                      Scheme{"deepseek", {kSigmoid, 3, 4, 2, true, 0, 1e-20, 2.5}, true},
                      Scheme{"softmax_groups", {.used = 4, .groups = 3, .groups_used = 2}, false}),
    [](const auto& tested) { return tested.param.name; });

// Scores of some tokens against the definition in double. In fp32, p errs by some 2^-24 of itself
// for each of its operations (an exponential, sums over 12), so a weight by at most 20 * 2^-24 of
// itself; ties within that are not drawn by chance.
TEST_P(EveryRouting, ChoosesAndWeighsAsDefined) {
  std::mt19937 random(7);
  std::normal_distribution<float> normal(0.0f, 2.0f), small(0.0f, 0.2f);
  for (int token = 0; token < 200; ++token) {
    std::vector<float> scores, bias;
    for (int e = 0; e < 12; ++e) {
      scores.push_back(normal(random));
      if (GetParam().bias) bias.push_back(small(random));
    }
    const auto expected = naive_routing(GetParam().routing, Row(scores.begin(), scores.end()),
                                        Row(bias.begin(), bias.end()));
    const std::vector<RoutedTo> given = chosen(GetParam().routing, scores, bias);
    ASSERT_EQ(given.size(), expected.size());
    for (std::size_t i = 0; i < given.size(); ++i) {
      EXPECT_EQ(given[i].expert, expected[i].first) << token;
      EXPECT_NEAR(given[i].weight / expected[i].second, 1.0, 20 * 0x1p-24) << token;
    }
  }
}

// By hand: sigmoid(0) = 1/2, so all p are equal and the bias alone decides; weights are 1/2 each,
// scaled to sum 1, times 3.
TEST(Routing, LetsTheBiasChooseButNotWeigh) {
  const Routing routing{.scores = kSigmoid, .used = 2, .normalize = true, .scale = 3};
  const auto given = chosen(routing, {0, 0, 0, 0}, {0, 0.1f, 0.3f, 0.2f});
  EXPECT_THAT(experts_of(given), ElementsAre(2, 3));
  for (const RoutedTo& to : given) EXPECT_FLOAT_EQ(to.weight, 1.5f);
}

// Groups of three: the first has the best expert, the second the two best of the rest.
TEST(Routing, CountsAGroupByItsTwoBest) {
  const Routing routing{.scores = kSigmoid, .used = 2, .groups = 2, .groups_used = 1};
  EXPECT_THAT(experts_of(chosen(routing, {3, -5, -5, 2, 1, -5})), ElementsAre(3, 4));
  // The third of a group does not count.
  EXPECT_THAT(experts_of(chosen(routing, {2, 1, -5, 1, 1, 1})), ElementsAre(0, 1));
}

TEST(Routing, TakesTheFirstOfEquals) {
  EXPECT_THAT(experts_of(chosen({.used = 3}, {1, 2, 1, 2, 1})), ElementsAre(1, 3, 0));
  const float nan = std::numeric_limits<float>::quiet_NaN();
  EXPECT_EQ(chosen({.used = 2}, {nan, nan, nan}).size(), 2u);
}

// Sigmoids that are 0 in fp32: without anything added, 0 / 0.
TEST(Routing, DividesByASumThatIsNeverZeroIfSomethingIsAdded) {
  Routing routing{.scores = kSigmoid, .used = 1, .normalize = true};
  EXPECT_TRUE(std::isnan(chosen(routing, {-200, -200})[0].weight));
  routing.sum_extra = 1e-20;
  EXPECT_EQ(chosen(routing, {-200, -200})[0].weight, 0.0f);
  routing.sum_extra = 0;
  routing.sum_floor = 1e-12;
  EXPECT_EQ(chosen(routing, {-200, -200})[0].weight, 0.0f);
}

}  // namespace
}  // namespace calque::model
