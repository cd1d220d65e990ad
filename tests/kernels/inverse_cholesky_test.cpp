#include "calque/kernels/inverse_cholesky.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <tuple>
#include <utility>
#include <vector>

#include "kernels/devices.h"
#include "support/samples.h"

namespace calque {
namespace {

class InverseCholesky : public ::testing::TestWithParam<std::string> {
 protected:
  Exec exec_ = open_exec(GetParam(), 2);
};

Exec cpu(int threads = 2) { return open_exec("cpu", threads); }

// R with R U = I, by back substitution in double.
Matrix<double> inverse_of_upper(const Matrix<float>& upper) {
  const Index size = upper.rows();
  Matrix<double> inverse(size, size);
  for (Index i = size; i-- > 0;) {
    for (Index k = i + 1; k < size; ++k)
      for (Index j = k; j < size; ++j)
        inverse(i, j) -= static_cast<double>(upper(i, k)) * inverse(k, j);
    for (Index j = i; j < size; ++j) inverse(i, j) /= upper(i, i);
    inverse(i, i) += 1.0 / upper(i, i);
  }
  return inverse;
}

// |R| |R^T|, which is no less than |H| = |R R^T| anywhere.
Matrix<double> magnitude_of_product(const Matrix<double>& upper) {
  const Index size = upper.rows();
  Matrix<double> product(size, size);
  for (Index i = 0; i < size; ++i)
    for (Index j = 0; j < size; ++j)
      for (Index k = std::max(i, j); k < size; ++k)
        product(i, j) += std::abs(upper(i, k) * upper(j, k));
  return product;
}

struct Bound {
  double roundings;          // times u = 2^-24
  Matrix<double> magnitude;  // in place of |H|
};

// On the CPU U is exact but for the rounding of its entries to fp32:
//   |U^T U H - I| <= (2u + u^2) |U^T| |U| |H|, entry by entry;
// 3u leaves room for the double arithmetic, which is off by about K^2 2^-53. In fp32 throughout the
// factorisation has a backward error of (K + 1) u |R| |R^T| and the inversion a residual of
// K u |U| |R| (Higham, "Accuracy and Stability", theorems 10.3 and 14.2), which add up to
//   |U^T U H - I| <= 3 (K + 2) u |U^T| |U| |R| |R^T|.
Bound bound_for(const std::string& device, const Matrix<float>& hessian,
                const Matrix<float>& factor) {
  constexpr Index kLargestInDouble = 256;  // on the CPU
  if (device != "cpu" || hessian.rows() > kLargestInDouble)
    return {3.0 * static_cast<double>(hessian.rows() + 2),
            magnitude_of_product(inverse_of_upper(factor))};
  Matrix<double> magnitude(hessian.rows(), hessian.cols());
  for (Index i = 0; i < magnitude.size(); ++i)
    magnitude.data()[i] = std::abs(static_cast<double>(hessian.data()[i]));
  return {3.0, std::move(magnitude)};
}

TEST_P(InverseCholesky, FactorsTheInverse) {
  for (const Index size : {Index{1}, Index{2}, Index{33}, Index{300}, Index{513}}) {
    const Matrix<float> hessian =
        test::damped_hessian(test::correlated_inputs(size / 2 + 1, size, 4, 21), 0.01);
    const auto factor = inverse_cholesky(hessian, exec_);
    ASSERT_TRUE(factor.has_value()) << size;
    const Bound bound = bound_for(GetParam(), hessian, *factor);
    Matrix<double> half(size, size), half_bound(size, size);  // U H, |U| |H|
    for (Index i = 0; i < size; ++i)
      for (Index k = i; k < size; ++k) {
        const double entry = (*factor)(i, k);
        for (Index j = 0; j < size; ++j) {
          half(i, j) += entry * hessian(k, j);
          half_bound(i, j) += std::abs(entry) * bound.magnitude(k, j);
        }
      }
    Matrix<double> product(size, size), product_bound(size, size);
    for (Index k = 0; k < size; ++k)
      for (Index i = k; i < size; ++i) {
        const double entry = (*factor)(k, i);
        for (Index j = 0; j < size; ++j) {
          product(i, j) += entry * half(k, j);
          product_bound(i, j) += std::abs(entry) * half_bound(k, j);
        }
      }
    for (Index i = 0; i < size; ++i)
      for (Index j = 0; j < size; ++j) {
        ASSERT_NEAR(product(i, j), i == j ? 1.0 : 0.0,
                    bound.roundings * 0x1p-24 * product_bound(i, j))
            << size;
        if (j < i) {
          ASSERT_EQ((*factor)(i, j), 0.0f);
        }
      }
  }
}

// By hand: H = diag(4, 16) has H^-1 = diag(1/4, 1/16) = U^T U.
TEST_P(InverseCholesky, OfADiagonalMatrixIsTheInverseRoot) {
  Matrix<float> hessian(2, 2);
  hessian(0, 0) = 4;
  hessian(1, 1) = 16;
  hessian(1, 0) = std::numeric_limits<float>::quiet_NaN();  // the lower triangle is not read
  const auto factor = inverse_cholesky(hessian, exec_);
  ASSERT_TRUE(factor.has_value());
  EXPECT_EQ((*factor)(0, 0), 0.5f);
  EXPECT_EQ((*factor)(1, 1), 0.25f);
  EXPECT_EQ((*factor)(0, 1), 0.0f);
}

// Above 256 the arithmetic is fp32: backward error K u, so |U^T U H - I| is at most a small
// multiple of K u cond(H). H = I + a a^T / 2 with |a| = 1 has condition 1.5 and
// H^-1 = I - a a^T / 3.
TEST(InverseCholeskyOnTheCpu, FactorsLargeMatricesInSinglePrecision) {
  const Index size = 2051;
  const Matrix<float> a = test::normal_matrix(1, size, 22, 1.0f / std::sqrt(2051.0f));
  double norm = 0;
  for (Index i = 0; i < size; ++i) norm += static_cast<double>(a(0, i)) * a(0, i);
  Matrix<float> hessian(size, size);
  for (Index i = 0; i < size; ++i)
    for (Index j = i; j < size; ++j)
      hessian(i, j) = 0.5f * a(0, i) * a(0, j) + (i == j ? 1.0f : 0.0f);
  const auto factor = inverse_cholesky(hessian, open_exec("cpu", 2));
  ASSERT_TRUE(factor.has_value());
  for (const auto& [i, j] :
       {std::pair<Index, Index>{0, 0}, {5, 2000}, {2050, 2050}, {1000, 1001}}) {
    double inverse = 0;
    for (Index k = 0; k <= std::min(i, j); ++k)
      inverse += static_cast<double>((*factor)(k, i)) * (*factor)(k, j);
    const double exact = (i == j ? 1.0 : 0.0) - 0.5 * a(0, i) * a(0, j) / (1.0 + 0.5 * norm);
    EXPECT_NEAR(inverse, exact, 2051 * 0x1p-24 * 1.5) << i << ", " << j;
  }
}

// In fp32 (u = 2^-24), entry by entry: a Cholesky factor has |R R^T - H| <= K u |R| |R^T| (Higham,
// Accuracy and Stability, theorem 10.3) and an inverse |U R - I| <= K u |U| |R| (theorem 14.1), so
//   |U^T U H - I| <= 3 K u |U^T| |U| |R| |R^T|,
// and by Cauchy-Schwarz (|R| |R^T|)_ij <= sqrt(H_ii H_jj).
TEST(InverseCholeskyOnTheCpu, FactorsLargeCorrelatedMatricesInSinglePrecision) {
  const Index size = 2309;
  const Matrix<float> hessian = test::damped_hessian(test::correlated_inputs(300, size, 4, 31), 1);
  const auto factor = inverse_cholesky(hessian, cpu());
  ASSERT_TRUE(factor.has_value());
  for (const Index column : {Index{3}, Index{2308}}) {
    std::vector<double> half(static_cast<std::size_t>(size)), half_bound = half;
    for (Index i = 0; i < size; ++i)
      for (Index k = i; k < size; ++k) {
        half[i] += static_cast<double>((*factor)(i, k)) * hessian(k, column);
        half_bound[i] += std::abs((*factor)(i, k)) *
                         std::sqrt(static_cast<double>(hessian(k, k)) * hessian(column, column));
      }
    for (Index r = 0; r < size; ++r) {
      double value = r == column ? -1.0 : 0.0, bound = 0;
      for (Index k = 0; k <= r; ++k) {
        value += (*factor)(k, r) * half[k];
        bound += std::abs((*factor)(k, r)) * half_bound[k];
      }
      ASSERT_LE(std::abs(value), 3.0 * static_cast<double>(size) * 0x1p-24 * bound)
          << r << ", " << column;
    }
  }
}

TEST(InverseCholeskyOnTheCpu, TakesTheMemoryOfItsArgumentAndGivesTheSame) {
  for (const Index size : {Index{1}, Index{257}, Index{2051}}) {
    Matrix<float> hessian = test::damped_hessian(test::correlated_inputs(90, size, 4, 26), 0.01);
    const auto expected = inverse_cholesky(hessian, cpu());
    const float* memory = hessian.data();
    const auto factor = inverse_cholesky(std::move(hessian), cpu());
    ASSERT_TRUE(expected && factor) << size;
    EXPECT_TRUE(test::same_bytes(*factor, *expected)) << size;
    EXPECT_EQ(factor->data(), memory) << size;
  }
}

TEST(InverseCholeskyOnTheCpu, ReadsOnlyTheUpperTriangleOfLargeMatrices) {
  const Index size = 2100;
  Matrix<float> hessian = test::damped_hessian(test::correlated_inputs(90, size, 4, 27), 0.01);
  const auto expected = inverse_cholesky(hessian, cpu());
  for (Index i = 0; i < size; ++i)
    for (Index j = 0; j < i; ++j) hessian(i, j) = std::numeric_limits<float>::quiet_NaN();
  const auto factor = inverse_cholesky(std::move(hessian), cpu(3));
  ASSERT_TRUE(expected && factor);
  EXPECT_TRUE(test::same_bytes(*factor, *expected));  // nor does the number of threads matter
  for (const auto& [i, j] : {std::pair<Index, Index>{1, 0}, {255, 254}, {300, 5}, {2099, 2098}})
    EXPECT_EQ((*factor)(i, j), 0.0f) << i << ", " << j;
}

TEST(InverseCholeskyOnTheCpu, RefusesLargeMatricesThatAreIndefiniteOrNotFinite) {
  const Index size = 2051;
  for (const auto& [i, j, bad] : {std::tuple<Index, Index, float>{3, 3, -1.0f},
                                  {0, 2050, std::numeric_limits<float>::infinity()},
                                  {2, 5, std::numeric_limits<float>::quiet_NaN()}}) {
    Matrix<float> hessian(size, size);
    for (Index k = 0; k < size; ++k) hessian(k, k) = 1.0f;
    hessian(i, j) = bad;
    EXPECT_FALSE(inverse_cholesky(std::move(hessian), cpu()).has_value()) << i << ", " << j;
  }
}

TEST_P(InverseCholesky, RefusesAnIndefiniteMatrix) {
  Matrix<float> hessian = test::damped_hessian(test::correlated_inputs(80, 300, 4, 23), 0.01);
  hessian(150, 150) = -1.0f;
  EXPECT_FALSE(inverse_cholesky(hessian, exec_).has_value());
  Matrix<float> zero(3, 3);
  EXPECT_FALSE(inverse_cholesky(zero, exec_).has_value());
}

TEST_P(InverseCholesky, RefusesAMatrixThatIsNotFinite) {
  for (const float bad :
       {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()})
    for (const auto& [i, j] : {std::pair<Index, Index>{3, 3}, {0, 299}, {2, 5}}) {
      Matrix<float> hessian = test::damped_hessian(test::correlated_inputs(50, 300, 4, 24), 0.01);
      hessian(i, j) = bad;
      EXPECT_FALSE(inverse_cholesky(hessian, exec_).has_value()) << bad << " at " << i << ", " << j;
    }
}

TEST_P(InverseCholesky, DoesNotDependOnTheNumberOfThreads) {
  const Matrix<float> hessian =
      test::damped_hessian(test::correlated_inputs(100, 700, 4, 25), 0.01);
  EXPECT_TRUE(test::same_bytes(*inverse_cholesky(hessian, open_exec(GetParam(), 1)),
                               *inverse_cholesky(hessian, open_exec(GetParam(), 3))));
}

CALQUE_ON_EVERY_DEVICE(InverseCholesky);

}  // namespace
}  // namespace calque
