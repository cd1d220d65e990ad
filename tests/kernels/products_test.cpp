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

// actual(i, j) is the sum over t of a(i, t) b(t, j): n fp32 products in any order are within
// n 2^-24 of the sum of their magnitudes.
template <typename A>
void expect_product(Index inner, A a, const Matrix<float>& b, const Matrix<float>& actual) {
  for (Index i = 0; i < actual.rows(); ++i)
    for (Index j = 0; j < actual.cols(); ++j) {
      double sum = 0, magnitude = 0;
      for (Index t = 0; t < inner; ++t) {
        const double product = static_cast<double>(a(i, t)) * b(t, j);
        sum += product;
        magnitude += std::abs(product);
      }
      EXPECT_NEAR(actual(i, j), sum, static_cast<double>(inner) * 0x1p-24 * magnitude);
    }
}

TEST(Multiply, SumsRowTimesColumn) {
  const auto a = random_matrix(131, 37, 1);
  const auto b = random_matrix(37, 29, 2);
  const Matrix<float> product = multiply(a, b, open_exec("cpu", 2));
  ASSERT_EQ(product.rows(), 131);
  ASSERT_EQ(product.cols(), 29);
  expect_product(
      37, [&](Index n, Index k) { return a(n, k); }, b, product);
}

TEST(AccumulateProduct, AddsOverCalls) {
  const auto a = random_matrix(50, 70, 3);
  const auto b = random_matrix(50, 65, 4);
  Matrix<float> sum(70, 65);
  const Exec exec = open_exec("cpu", 2);
  accumulate_product(a.view().rows(0, 20), b.view().rows(0, 20), sum, exec);
  accumulate_product(a.view().rows(20, 30), b.view().rows(20, 30), sum, exec);
  expect_product(
      50, [&](Index k, Index t) { return a(t, k); }, b, sum);
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
