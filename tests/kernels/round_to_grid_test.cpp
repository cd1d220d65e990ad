#include "calque/kernels/round_to_grid.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <limits>

#include "calque/core/error.h"
#include "kernels/devices.h"
#include "support/samples.h"

namespace calque {
namespace {

class RoundToGrid : public ::testing::TestWithParam<std::string> {
 protected:
  std::vector<int> codes_of(std::vector<float> weights, float scale, float offset,
                            int max_code) const {
    const Index count = static_cast<Index>(weights.size());
    Matrix<std::uint8_t> codes(1, count);
    round_to_grid(MatrixView<const float>(weights.data(), 1, count),
                  {MatrixView<const float>(&scale, 1, 1), MatrixView<const float>(&offset, 1, 1),
                   test::groups_of(count, count), max_code},
                  codes, exec_);
    return {codes.data(), codes.data() + count};
  }

  Exec exec_ = open_exec(GetParam(), 2);
};

TEST_P(RoundToGrid, RoundsToTheNearestCodeTiesToEven) {
  EXPECT_EQ(codes_of({0.49f, 0.5f, 0.51f, 1.5f, 2.5f, 3.5f}, 1.0f, 0.0f, 15),
            (std::vector<int>{0, 0, 1, 2, 2, 4}));
}

TEST_P(RoundToGrid, ClampsToTheCodesThatExist) {
  const float infinity = std::numeric_limits<float>::infinity();
  EXPECT_EQ(codes_of({-9.0f, 3.6f, 1e30f, -infinity, infinity}, 1.0f, 0.0f, 3),
            (std::vector<int>{0, 3, 3, 0, 3}));
}

TEST_P(RoundToGrid, UnderstandsNegativeScales) {
  // value = 8 * 0.5 - 0.5 * code
  EXPECT_EQ(codes_of({4.0f, 0.0f, -3.5f, 3.3f}, -0.5f, 4.0f, 15), (std::vector<int>{0, 8, 15, 1}));
}

TEST_P(RoundToGrid, GivesCodeZeroForAZeroScale) {
  EXPECT_EQ(codes_of({1.0f, 0.0f, -1.0f}, 0.0f, 0.0f, 15), (std::vector<int>{0, 0, 0}));
}

// By the definition, every column with the grid of its own group, groups in any order.
TEST_P(RoundToGrid, UsesTheGroupOfEachColumn) {
  const Matrix<float> weight = test::normal_matrix(19, 31, 41);
  Matrix<float> scales = test::normal_matrix(19, 3, 42, 0.3f);
  const Matrix<float> offsets = test::normal_matrix(19, 3, 43);
  std::vector<std::int32_t> groups;
  for (Index k = 0; k < 31; ++k) groups.push_back(static_cast<std::int32_t>(k * k % 3));
  Matrix<std::uint8_t> codes(19, 31);
  round_to_grid(weight, {scales, offsets, groups, 6}, codes, exec_);
  for (Index n = 0; n < 19; ++n)
    for (Index k = 0; k < 31; ++k) {
      const float position = (weight(n, k) - offsets(n, groups[k])) / scales(n, groups[k]);
      EXPECT_EQ(codes(n, k), std::clamp(std::rint(position), 0.0f, 6.0f));
    }
}

TEST_P(RoundToGrid, RefusesAGroupThatDoesNotExist) {
  Matrix<float> weight(2, 4), scales(2, 1), offsets(2, 1);
  Matrix<std::uint8_t> codes(2, 4);
  EXPECT_THROW(round_to_grid(weight, {scales, offsets, test::groups_of(4, 2), 15}, codes, exec_),
               Error);
}

CALQUE_ON_EVERY_DEVICE(RoundToGrid);

}  // namespace
}  // namespace calque
