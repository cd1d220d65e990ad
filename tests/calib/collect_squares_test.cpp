#include "calque/calib/collect_squares.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>

#include "calque/core/error.h"
#include "support/samples.h"

namespace calque::calib {
namespace {

constexpr Index kFeatures = 19;

forward::ActivationView view_of(MatrixView<const float> inputs_TK) { return {inputs_TK, {}}; }

TEST(SquareCollector, SumsSquaresOfColumns) {
  const Matrix<float> inputs_TK = test::normal_matrix(150, kFeatures, 1);
  SquareCollector collector(kFeatures);
  collector.add(view_of(inputs_TK.view()));
  EXPECT_EQ(collector.tokens(), 150);
  // Both sum exact squares in double; 150 roundings each.
  const Matrix<double> exact = test::gram_in_double(inputs_TK);
  for (Index k = 0; k < kFeatures; ++k)
    EXPECT_NEAR(collector.sums_K()[static_cast<std::size_t>(k)], exact(k, k),
                300 * 0x1p-53 * exact(k, k));
}

TEST(SquareCollector, DoesNotDependOnHowRowsAreCutIntoCalls) {
  const Matrix<float> inputs_TK = test::normal_matrix(300, kFeatures, 2);
  SquareCollector at_once(kFeatures), in_parts(kFeatures);
  at_once.add(view_of(inputs_TK.view()));
  for (Index t = 0; t < 300; t += 100) in_parts.add(view_of(inputs_TK.view().rows(t, 100)));
  EXPECT_EQ(at_once.sums_K(), in_parts.sums_K());
}

TEST(SquareCollector, TakesBFloat16) {
  Matrix<BFloat16> inputs_TK(3, kFeatures);
  for (Index t = 0; t < 3; ++t) inputs_TK(t, 5) = to_bfloat16(static_cast<float>(t + 1));
  SquareCollector collector(kFeatures);
  collector.add({{}, inputs_TK.view()});
  EXPECT_EQ(collector.sums_K()[5], 14.0);  // 1 + 4 + 9
}

TEST(SquareCollector, LeavesOutRowsThatAreNotFiniteAndNotesTheFirst) {
  Matrix<float> inputs_TK(3, kFeatures);
  inputs_TK(0, 4) = 3.0f;
  inputs_TK(1, 4) = 1.0f;
  inputs_TK(1, 0) = std::numeric_limits<float>::quiet_NaN();
  inputs_TK(2, 18) = -std::numeric_limits<float>::infinity();
  SquareCollector collector(kFeatures);
  collector.add(view_of(inputs_TK.view()));
  EXPECT_EQ(collector.tokens(), 1);
  EXPECT_EQ(collector.first_nonfinite_token(), 1);
  EXPECT_EQ(collector.sums_K()[4], 9.0);
}

TEST(SquareCollector, RefusesRowsOfAnotherWidth) {
  SquareCollector collector(kFeatures);
  const Matrix<float> inputs_TK(2, kFeatures + 1);
  try {
    collector.add(view_of(inputs_TK.view()));
    FAIL();
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), ::testing::HasSubstr("20 features, expected 19"));
  }
}

}  // namespace
}  // namespace calque::calib
