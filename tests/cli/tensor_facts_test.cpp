#include "cli/tensor_facts.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

namespace calque::cli {
namespace {

TEST(ValueFacts, AreThoseOfTheFiniteValues) {
  Matrix<float> m(2, 3);
  const float inf = std::numeric_limits<float>::infinity();
  const float values[] = {1, -3, 0, inf, std::nanf(""), 2};
  std::copy(std::begin(values), std::end(values), m.data());
  const ValueFacts facts = facts_of(m.view());
  EXPECT_EQ(facts.min, -3);
  EXPECT_EQ(facts.max, 2);
  EXPECT_EQ(facts.mean, 0);              // (1 - 3 + 0 + 2) / 4
  EXPECT_EQ(facts.rms, std::sqrt(3.5));  // (1 + 9 + 0 + 4) / 4
  EXPECT_EQ(facts.zeros, 1);
  EXPECT_EQ(facts.nonfinite, 2);
}

TEST(ValueFacts, OfNothingAreZero) {
  const ValueFacts facts = facts_of(Matrix<float>().view());
  EXPECT_EQ(facts.min, 0);
  EXPECT_EQ(facts.max, 0);
}

TEST(CodeFacts, CountCodesAndBoundScales) {
  quant::QuantizedMatrix q;
  q.grid.bits = 2;
  q.grid.group_size = 2;
  q.groups().codes_NK = Matrix<std::uint8_t>(1, 4);
  const std::uint8_t codes[] = {3, 0, 3, 1};
  std::copy(std::begin(codes), std::end(codes), q.groups().codes_NK.data());
  q.groups().scales_NG = Matrix<float>(1, 2);
  q.groups().scales_NG(0, 0) = -0.5f;  // negative scales happen: full_range
  q.groups().scales_NG(0, 1) = 0.25f;
  const CodeFacts facts = facts_of(q);
  EXPECT_EQ(facts.counts, (std::vector<std::int64_t>{1, 1, 0, 2}));
  EXPECT_EQ(facts.smallest_scale, 0.25);
  EXPECT_EQ(facts.largest_scale, 0.5);
  EXPECT_FALSE(facts.reordered_groups);
}

}  // namespace
}  // namespace calque::cli
