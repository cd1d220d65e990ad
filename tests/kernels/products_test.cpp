#include "calque/kernels/products.h"

#include <gtest/gtest.h>

#include <cmath>
#include <random>

namespace calque {
namespace {

Matrix<float> random_matrix(Index rows, Index cols, unsigned seed) {
  std::mt19937 rng(seed);
  std::normal_distribution<float> normal;
  auto m = Matrix<float>::uninitialized(rows, cols);
  for (Index i = 0; i < m.size(); ++i) m.data()[i] = normal(rng);
  return m;
}

// Sums of n fp32 products in any order: within n 2^-24 of the sum of magnitudes.
void expect_dot(double expected, double magnitude, Index n, float actual) {
  EXPECT_NEAR(actual, expected, static_cast<double>(n) * 0x1p-24 * magnitude);
}

TEST(Multiply, SumsRowTimesColumn) {
  const auto a = random_matrix(131, 37, 1);
  const auto b = random_matrix(37, 29, 2);
  const Matrix<float> product = multiply(a, b, open_exec("cpu", 2));
  ASSERT_EQ(product.rows(), 131);
  ASSERT_EQ(product.cols(), 29);
  for (Index n = 0; n < 131; ++n)
    for (Index m = 0; m < 29; ++m) {
      double sum = 0, magnitude = 0;
      for (Index k = 0; k < 37; ++k) {
        sum += static_cast<double>(a(n, k)) * b(k, m);
        magnitude += std::abs(static_cast<double>(a(n, k)) * b(k, m));
      }
      expect_dot(sum, magnitude, 37, product(n, m));
    }
}

TEST(AccumulateProduct, AddsOverCalls) {
  const auto a = random_matrix(50, 70, 3);
  const auto b = random_matrix(50, 65, 4);
  Matrix<float> sum(70, 65);
  const Exec exec = open_exec("cpu", 2);
  accumulate_product(a.view().rows(0, 20), b.view().rows(0, 20), sum, exec);
  accumulate_product(a.view().rows(20, 30), b.view().rows(20, 30), sum, exec);
  for (Index k = 0; k < 70; ++k)
    for (Index m = 0; m < 65; ++m) {
      double expected = 0, magnitude = 0;
      for (Index t = 0; t < 50; ++t) {
        expected += static_cast<double>(a(t, k)) * b(t, m);
        magnitude += std::abs(static_cast<double>(a(t, k)) * b(t, m));
      }
      expect_dot(expected, magnitude, 50, sum(k, m));
    }
}

TEST(Products, AreTheSameWithAnyNumberOfThreads) {
  const auto a = random_matrix(200, 150, 5);
  const auto b = random_matrix(200, 90, 6);
  Matrix<float> one(150, 90), two(150, 90);
  accumulate_product(a, b, one, open_exec("cpu", 1));
  accumulate_product(a, b, two, open_exec("cpu", 2));
  for (Index i = 0; i < one.size(); ++i) ASSERT_EQ(one.data()[i], two.data()[i]);
}

}  // namespace
}  // namespace calque
