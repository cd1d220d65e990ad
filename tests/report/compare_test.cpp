#include "calque/report/compare.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "calque/core/error.h"

namespace calque::report {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

Point point(const std::string& label, std::uint64_t bytes, double kl, double perplexity) {
  Point p;
  p.label = label;
  p.base = {"base", 1000};
  p.bytes = bytes;
  Quality q;
  q.text = "prose";
  q.seqlen = 512;
  q.tokens_sha256 = "aa";
  q.perplexity.value = perplexity;
  q.perplexity_original = 10;
  q.has_kl = true;
  q.kl_mean.value = kl;
  p.qualities = {q};
  return p;
}

std::vector<std::string> best_of(const Comparison& comparison) {
  std::vector<std::string> labels;
  for (const ComparedModel& m : comparison.models)
    if (m.best) labels.push_back(m.point.label);
  return labels;
}

TEST(Compare, GroupsBySizeAndMarksTheClosestOfEach) {
  const Comparison c = compare({point("c", 400, 0.001, 10), point("a", 100, 0.2, 12),
                                point("b", 109, 0.1, 11), point("d", 111, 0.05, 11)});
  std::vector<std::size_t> groups;
  for (const ComparedModel& m : c.models) groups.push_back(m.group);
  EXPECT_THAT(groups, ElementsAre(0, 0, 1, 2));  // 111 is more than 1.1 times 100
  EXPECT_THAT(best_of(c), ElementsAre("b", "d", "c"));
  EXPECT_THAT(c.warnings, IsEmpty());
}

TEST(Compare, DifferentOriginalsOnTheSameTokensComparePerplexity) {
  Point other = point("other", 100, 0.5, 9);
  other.base = {"larger", 4000};
  const Comparison c = compare({point("a", 101, 0.001, 12), other});
  EXPECT_FALSE(c.kl_compares);
  EXPECT_TRUE(c.perplexity_compares);
  ASSERT_EQ(c.warnings.size(), 1u);
  EXPECT_THAT(c.warnings[0], HasSubstr("base (1000 B), larger (3.91 KiB)"));
  EXPECT_THAT(best_of(c), ElementsAre("other"));
}

TEST(Compare, OriginalsOfOneShapeWithOtherWeightsShowInTheirPerplexity) {
  Point other = point("other", 100, 0.5, 9);
  other.qualities[0].perplexity_original = 8;
  EXPECT_FALSE(compare({point("a", 101, 0.001, 12), other}).kl_compares);
}

TEST(Compare, DifferentTokensCompareNothing) {
  Point other = point("other", 100, 0.5, 9);
  other.qualities[0].tokens_sha256 = "bb";
  const Comparison c = compare({point("a", 101, 0.001, 12), other});
  EXPECT_FALSE(c.kl_compares || c.perplexity_compares);
  EXPECT_THAT(best_of(c), IsEmpty());
}

TEST(Compare, NothingIsRefused) { EXPECT_THROW(compare({}), Error); }

}  // namespace
}  // namespace calque::report
