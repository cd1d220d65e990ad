#include "calque/record/task.h"

#include <gtest/gtest.h>

#include <cmath>

namespace calque::record {
namespace {

// p = 3/4 of n = 4: sqrt(3/16 / 3) = 1/4.
TEST(ShareRight, HasTheStandardErrorOfTheSample) {
  const Share share = share_right("1101");
  EXPECT_DOUBLE_EQ(share.value, 0.75);
  EXPECT_DOUBLE_EQ(share.standard_error, 0.25);
  EXPECT_EQ(share_right("").value, 0);
  EXPECT_EQ(share_right("1").standard_error, 0);
}

// Five lost and one won of ten: the differences -1 five times, 1 once, 0 four times have the mean
// -0.4, the sample variance (6 - 16 / 10) / 9 = 22 / 45 and the mean's standard error sqrt(22 /
// 450). Two-sided: 2 (C(6, 0) + C(6, 1)) / 2^6 = 14 / 64.
TEST(PairedDifference, CountsOnlyTheQuestionsThatDiffer) {
  const PairedDifference d = paired_difference("1111110000", "1000000100");
  EXPECT_EQ(d.lost, 5);
  EXPECT_EQ(d.won, 1);
  EXPECT_DOUBLE_EQ(d.value, -0.4);
  EXPECT_DOUBLE_EQ(d.standard_error, std::sqrt(22.0 / 450));
  EXPECT_NEAR(d.p_value, 14.0 / 64, 1e-15);
}

TEST(PairedDifference, IsNothingBetweenEqualAnswers) {
  const PairedDifference d = paired_difference("1010", "1010");
  EXPECT_EQ(d.value, 0);
  EXPECT_EQ(d.standard_error, 0);
  EXPECT_EQ(d.p_value, 1);
}

// By hand: 2 (1 + 10) / 2^10; 2 / 2^6. The large ones by Python's fractions.
TEST(McnemarExact, IsTheBinomialTestOfTheQuestionsThatDiffer) {
  EXPECT_NEAR(mcnemar_exact(1, 9), 22.0 / 1024, 1e-15);
  EXPECT_NEAR(mcnemar_exact(9, 1), 22.0 / 1024, 1e-15);
  EXPECT_NEAR(mcnemar_exact(0, 6), 2.0 / 64, 1e-15);
  EXPECT_EQ(mcnemar_exact(3, 3), 1);
  EXPECT_NEAR(mcnemar_exact(600, 500), 0.0028195449914364275, 1e-12);
  EXPECT_NEAR(mcnemar_exact(1200, 1100), 0.03896685268382058, 1e-12);  // 2^-2300 is no double
}

}  // namespace
}  // namespace calque::record
