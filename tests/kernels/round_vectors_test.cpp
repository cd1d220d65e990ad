// Rounding of GGUF's vectors: expected values by the definitions in double, on what the stored
// bytes stand for, and by trying every vector.
#include "calque/kernels/round_vectors.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <vector>

#include "calque/kernels/inverse_cholesky.h"
#include "ggml/ggml_samples.h"
#include "support/samples.h"

namespace calque {
namespace {

constexpr Index kRows = 70, kColumns = 512;  // a whole panel and a part of one; two super-blocks

Matrix<float> identity(Index columns) {
  Matrix<float> matrix(columns, columns);
  for (Index k = 0; k < columns; ++k) matrix(k, k) = 1.0f;
  return matrix;
}

class RoundVectorsOf : public ::testing::TestWithParam<ggml::Type> {
 protected:
  ggml::Type type_ = GetParam();
  const ggml::VectorStructure& structure_ = *ggml::vectors_of(type_);
  Matrix<float> weight_ = test::normal_matrix(kRows, kColumns, 61);
  Matrix<float> hessian_ =
      test::damped_hessian(test::correlated_inputs(kColumns + 100, kColumns, 6, 62), 0.01);
  const Exec exec_ = open_exec("cpu", 2);

  ggml::VectorFields start() const {
    return ggml_vectors(type_, ggml_quantized(type_, weight_, {}), kRows, kColumns, exec_);
  }

  // Runs in rising order if `sweeps`.
  std::vector<double> round(const Matrix<float>& hessian, ggml::VectorFields& fields, bool sweeps,
                            int passes, int threads = 2) const {
    const Exec exec = open_exec("cpu", threads);
    Matrix<float> factor;
    std::vector<Index> order(sweeps ? kColumns / 8 : 0);
    std::iota(order.begin(), order.end(), Index{0});
    if (sweeps) factor = *inverse_cholesky(hessian.clone(), exec);
    std::vector<double> losses(kRows);
    round_vectors({weight_, hessian, structure_, factor, order, passes, fields, losses}, exec);
    return losses;
  }
  std::vector<std::byte> bytes_of(const ggml::VectorFields& fields) const {
    std::vector<std::byte> bytes(kRows * ggml::row_bytes(type_, kColumns));
    store_ggml_vectors(type_, fields, bytes, exec_);
    return bytes;
  }
  Matrix<float> values_of(const ggml::VectorFields& fields) const {
    return ggml_values(type_, bytes_of(fields), kRows, kColumns);
  }
  std::vector<double> losses_of(const Matrix<float>& hessian,
                                const ggml::VectorFields& fields) const {
    const Matrix<float> values = values_of(fields);
    std::vector<double> losses;
    Matrix<float> error(1, kColumns);
    for (Index n = 0; n < kRows; ++n) {
      for (Index k = 0; k < kColumns; ++k) error(0, k) = weight_(n, k) - values(n, k);
      losses.push_back(test::quadratic_form(error, hessian));
    }
    return losses;
  }
};

double total(const std::vector<double>& losses) {
  return std::accumulate(losses.begin(), losses.end(), 0.0);
}

// The residual behind the losses that come back is kept up in fp32 through some K updates a pass.
TEST_P(RoundVectorsOf, LowersEveryRowsLossWithEveryPassAndReturnsIt) {
  ggml::VectorFields fields = start();
  std::vector<double> before = losses_of(hessian_, fields);
  const std::vector<double> first = before;
  for (int pass = 0; pass < 3; ++pass) {
    const std::vector<double> returned = round(hessian_, fields, false, 1);
    const std::vector<double> now = losses_of(hessian_, fields);
    for (std::size_t n = 0; n < now.size(); ++n) {
      const double tolerance = 10 * static_cast<double>(kColumns) * 0x1p-24 * first[n];
      EXPECT_NEAR(returned[n], now[n], tolerance) << "row " << n;
      EXPECT_LE(now[n], before[n] + tolerance) << "row " << n << ", pass " << pass;
    }
    before = now;
  }
  EXPECT_LT(total(before), 0.7 * total(first));
}

TEST_P(RoundVectorsOf, SweepsToAFractionOfTheReferencesLossAndReturnsIt) {
  ggml::VectorFields fields = start();
  const double reference = total(losses_of(hessian_, fields));
  const std::vector<double> returned = round(hessian_, fields, true, 0);
  const std::vector<double> now = losses_of(hessian_, fields);
  EXPECT_LT(total(now), 0.7 * reference);
  // Weights move K / 8 times before they are rounded, each time by fp32 products.
  for (std::size_t n = 0; n < now.size(); ++n)
    EXPECT_NEAR(returned[n], now[n], 1e-3 * now[n]) << "row " << n;
}

TEST_P(RoundVectorsOf, HoldsWhatTheBytesHold) {
  ggml::VectorFields fields = start();
  round(hessian_, fields, true, 2);
  const auto bytes = bytes_of(fields);
  const ggml::VectorFields again = ggml_vectors(type_, bytes, kRows, kColumns, exec_);
  EXPECT_TRUE(test::same_bytes(again.codes_NV, fields.codes_NV));
  EXPECT_TRUE(test::same_bytes(again.signs_NE, fields.signs_NE));
  EXPECT_TRUE(test::same_bytes(again.scale_codes_NG, fields.scale_codes_NG));
  EXPECT_TRUE(test::same_bytes(again.steps_NS, fields.steps_NS));
  EXPECT_EQ(ggml::first_fault(type_, bytes, kColumns), "");
}

TEST_P(RoundVectorsOf, DoesNotDependOnTheNumberOfThreads) {
  ggml::VectorFields one = start(), three = start();
  EXPECT_EQ(round(hessian_, one, true, 2, 1), round(hessian_, three, true, 2, 3));
  EXPECT_EQ(bytes_of(one), bytes_of(three));
}

// H = I: nothing is coupled. For the signs, or the shift, of a run no vector is nearer (distances
// are compared to 12 bits), and signs are the weights' where their number may be odd.
TEST_P(RoundVectorsOf, FindsTheNearestVectorWhereInputsAreWhite) {
  ggml::VectorFields fields = start();
  round(identity(kColumns), fields, true, 0);
  const Matrix<float> values = values_of(fields);
  const Index length = structure_.length;
  for (Index n = 0; n < 5; ++n)
    for (Index v = 0; v < kColumns / length; ++v) {
      const Index at = v * length;
      const float scale =
          fields.steps_NS(n, at / structure_.super) * structure_.unit *
          static_cast<float>(2 * fields.scale_codes_NG(n, at / structure_.group) + 1);
      const int signs = fields.signs_NE(n, at / 8);
      std::vector<double> targets;
      double own = 0;
      for (Index k = at; k < at + length; ++k) {
        const double weight = weight_(n, k);
        const bool minus = structure_.shift == 0 && (signs >> (k % 8) & 1) != 0;
        const double shift = signs != 0 ? -structure_.shift : structure_.shift;
        targets.push_back(minus ? -weight : weight - scale * shift);
        own += std::pow(weight - values(n, k), 2);
        if (structure_.shift == 0 && !structure_.even_signs) {
          EXPECT_EQ(minus, weight < 0) << "row " << n << ", column " << k;
        }
      }
      double least = std::numeric_limits<double>::infinity();
      for (int p = 0; p < structure_.count(); ++p) {
        double distance = 0;
        for (Index e = 0; e < length; ++e) {
          const double level = structure_.points[static_cast<std::size_t>(p * length + e)];
          distance += std::pow(targets[static_cast<std::size_t>(e)] - scale * level, 2);
        }
        least = std::min(least, distance);
      }
      EXPECT_LE(own, least * (1 + 0x1p-10) + 1e-9) << "row " << n << ", vector " << v;
    }
}

// The vectors near a weight that is itself a row of the type are that weight.
TEST_P(RoundVectorsOf, KeepsWhatIsOnTheGridAlready) {
  ggml::VectorFields fields = start();
  weight_ = values_of(fields);
  round(hessian_, fields, true, 1);
  EXPECT_LE(total(losses_of(hessian_, fields)), 1e-9 * test::quadratic_form(weight_, hessian_));
}

INSTANTIATE_TEST_SUITE_P(Types, RoundVectorsOf,
                         ::testing::Values(ggml::Type::kIQ1_S, ggml::Type::kIQ1_M,
                                           ggml::Type::kIQ2_XXS, ggml::Type::kIQ2_XS,
                                           ggml::Type::kIQ2_S, ggml::Type::kIQ3_XXS,
                                           ggml::Type::kIQ3_S),
                         [](const auto& tested) { return name_of_type(tested.param); });

}  // namespace
}  // namespace calque
