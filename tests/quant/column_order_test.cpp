#include "calque/quant/column_order.h"

#include <gtest/gtest.h>

#include <cmath>
#include <random>
#include <vector>

namespace calque::quant {
namespace {

const std::vector<Index> kOrder{2, 0, 3, 1};

Matrix<float> random_matrix(Index rows, Index cols) {
  std::mt19937 random(5);
  std::normal_distribution<float> normal;
  Matrix<float> values(rows, cols);
  for (Index i = 0; i < values.size(); ++i) values.data()[i] = normal(random);
  return values;
}

InputStats stats_of(const Matrix<float>& inputs_TK) {
  InputStats stats;
  stats.tokens = inputs_TK.rows();
  stats.gram_KK = Matrix<float>(inputs_TK.cols(), inputs_TK.cols());
  for (Index k = 0; k < inputs_TK.cols(); ++k) {
    double magnitude = 0;
    for (Index t = 0; t < inputs_TK.rows(); ++t) {
      magnitude += std::abs(inputs_TK(t, k));
      for (Index j = k; j < inputs_TK.cols(); ++j)
        stats.gram_KK(k, j) += inputs_TK(t, k) * inputs_TK(t, j);
    }
    stats.magnitude_K.push_back(magnitude);
  }
  stats.given_mean_square_K = {1, 2, 3, 4};
  return stats;
}

TEST(ColumnOrder, PutsEachColumnInItsPlace) {
  const Matrix<float> own = random_matrix(3, 4);
  const Matrix<float> stored = reordered(own.clone(), kOrder);
  for (Index r = 0; r < 3; ++r)
    for (Index c = 0; c < 4; ++c)
      EXPECT_EQ(stored(r, c), own(r, kOrder[static_cast<std::size_t>(c)]));
  const Matrix<float> back = in_own_order(stored.clone(), kOrder);
  for (Index i = 0; i < own.size(); ++i) EXPECT_EQ(back.data()[i], own.data()[i]);
}

TEST(ColumnOrder, LeavesAMatrixWithoutAnOrderAlone) {
  const Matrix<float> own = random_matrix(3, 4);
  const Matrix<float> same = in_own_order(reordered(own.clone(), {}), {});
  for (Index i = 0; i < own.size(); ++i) EXPECT_EQ(same.data()[i], own.data()[i]);
}

// Products commute, so every bit is the same.
TEST(ColumnOrder, OfStatisticsIsThatOfTheInputs) {
  const Matrix<float> inputs_TK = random_matrix(9, 4);
  const InputStats actual = reordered(stats_of(inputs_TK), kOrder);
  const InputStats expected = stats_of(reordered(inputs_TK.clone(), kOrder));
  EXPECT_EQ(actual.magnitude_K, expected.magnitude_K);
  EXPECT_EQ(actual.tokens, 9);
  EXPECT_EQ(actual.given_mean_square_K, (std::vector<float>{3, 1, 4, 2}));
  for (Index i = 0; i < 4; ++i)
    for (Index j = i; j < 4; ++j) EXPECT_EQ(actual.gram_KK(i, j), expected.gram_KK(i, j));
}

}  // namespace
}  // namespace calque::quant
