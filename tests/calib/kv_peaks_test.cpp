#include "calque/calib/kv_peaks.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

namespace calque::calib {
namespace {

// Two heads, three tokens, two elements.
TEST(KvPeaks, AreTheLargestMagnitudesOfEachHead) {
  Matrix<float> rows_SD(6, 2);
  const float numbers[] = {1, -2, 0.5f, 7, -4, 0, 10, 0, 30, 0, -20, 5};
  std::copy(std::begin(numbers), std::end(numbers), rows_SD.data());
  const KvPeaks peaks;
  peaks.round_keys({.heads = 2, .by_head = true, .rows_SD = rows_SD.view()});
  peaks.round_values({.heads = 2, .by_head = false, .rows_SD = rows_SD.view()});
  const KvNumbers seen = peaks.take();
  // Rows 0 to 2 are the first head's; and rows 0, 2, 4 where a token's heads stand together.
  EXPECT_EQ(seen.keys, (std::vector<float>{7, 30}));
  EXPECT_EQ(seen.values, (std::vector<float>{30, 20}));
  for (Index i = 0; i < rows_SD.size(); ++i) EXPECT_EQ(rows_SD.data()[i], numbers[i]);
}

TEST(KvPeaks, GrowUntilTheyAreTaken) {
  Matrix<float> rows_SD(1, 1);
  const KvPeaks peaks;
  for (const float value : {1.0f, -3.0f, 2.0f}) {
    rows_SD(0, 0) = value;
    peaks.round_keys({.rows_SD = rows_SD.view()});
  }
  EXPECT_EQ(peaks.take().keys, std::vector<float>{3});
  EXPECT_TRUE(peaks.take().empty());
}

TEST(KvPeaks, DoNotCountNumbersThatAreNone) {
  Matrix<float> rows_SD(1, 2);
  rows_SD(0, 0) = std::numeric_limits<float>::quiet_NaN();
  rows_SD(0, 1) = -1;
  const KvPeaks peaks;
  peaks.round_values({.rows_SD = rows_SD.view()});
  EXPECT_EQ(peaks.take().values, std::vector<float>{1});
}

}  // namespace
}  // namespace calque::calib
