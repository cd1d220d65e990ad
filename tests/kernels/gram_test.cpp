#include "calque/kernels/gram.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>

#include "calque/core/error.h"
#include "kernels/devices.h"
#include "support/samples.h"

namespace calque {
namespace {

using test::correlated_inputs;

struct Sums {
  Matrix<float> gram_KK;
  std::vector<double> magnitude_K;
  GramCount count;
};

template <typename T>
Sums accumulate(const Matrix<T>& inputs_TK, const Exec& exec) {
  Sums sums{Matrix<float>(inputs_TK.cols(), inputs_TK.cols()),
            std::vector<double>(static_cast<std::size_t>(inputs_TK.cols())),
            {}};
  sums.count = accumulate_gram(inputs_TK.view(), sums.gram_KK, sums.magnitude_K, exec);
  return sums;
}

Matrix<BFloat16> as_bfloat16(const Matrix<float>& m) {
  Matrix<BFloat16> out(m.rows(), m.cols());
  for (Index i = 0; i < m.size(); ++i) out.data()[i] = to_bfloat16(m.data()[i]);
  return out;
}

Matrix<float> widened(const Matrix<BFloat16>& m) {
  Matrix<float> out(m.rows(), m.cols());
  for (Index i = 0; i < m.size(); ++i) out.data()[i] = to_float(m.data()[i]);
  return out;
}

// A sum of T products in fp32, in any order, with or without fused multiply-add, is off by at most
// (T + 1) u sum |x_i x_j| + O(u^2), u = 2^-24 (Higham, section 3.1); 2 more for the O(u^2).
void expect_upper_triangle_near(const Matrix<float>& inputs_TK, const Matrix<float>& gram_KK) {
  Matrix<float> magnitudes = inputs_TK.clone();
  for (Index i = 0; i < magnitudes.size(); ++i)
    magnitudes.data()[i] = std::abs(magnitudes.data()[i]);
  const Matrix<double> exact = test::gram_in_double(inputs_TK);
  const Matrix<double> scale = test::gram_in_double(magnitudes);
  for (Index i = 0; i < exact.rows(); ++i) {
    for (Index j = i; j < exact.cols(); ++j)
      ASSERT_NEAR(gram_KK(i, j), exact(i, j),
                  static_cast<double>(inputs_TK.rows() + 3) * 0x1p-24 * scale(i, j))
          << i << ", " << j;
    for (Index j = 0; j < i; ++j) ASSERT_EQ(gram_KK(i, j), 0.0f) << "lower triangle written";
  }
}

class Gram : public ::testing::TestWithParam<std::string> {
 protected:
  Exec exec_ = open_exec(GetParam(), 2);
};

TEST_P(Gram, MatchesADoublePrecisionSum) {
  for (const auto& [rows, cols] :
       {std::pair<Index, Index>{1, 1}, {7, 3}, {301, 129}, {2049, 203}, {37, 1111}, {600, 901}}) {
    const Matrix<float> inputs_TK = correlated_inputs(rows, cols, 5, 11);
    const Sums sums = accumulate(inputs_TK, exec_);
    EXPECT_EQ(sums.count.rows, rows);
    EXPECT_EQ(sums.count.nonfinite_rows, 0);
    expect_upper_triangle_near(inputs_TK, sums.gram_KK);
  }
}

TEST_P(Gram, MatchesADoublePrecisionSumOfBFloat16) {
  for (const auto& [rows, cols] : {std::pair<Index, Index>{515, 197}, {70, 1001}}) {
    const Matrix<BFloat16> inputs_TK = as_bfloat16(correlated_inputs(rows, cols, 5, 12));
    const Sums sums = accumulate(inputs_TK, exec_);
    EXPECT_EQ(sums.count.rows, rows);
    expect_upper_triangle_near(widened(inputs_TK), sums.gram_KK);
  }
}

TEST_P(Gram, AddsToWhatIsThere) {
  const Matrix<float> inputs_TK = test::normal_matrix(5, 3, 13);
  Matrix<float> gram_KK(3, 3);
  gram_KK(0, 2) = 100.0f;
  std::vector<double> magnitude_K = {0, 50, 0};
  accumulate_gram(inputs_TK.view(), gram_KK, magnitude_K, exec_);
  double product = 100, magnitude = 50;
  for (Index t = 0; t < 5; ++t) {
    product += static_cast<double>(inputs_TK(t, 0)) * inputs_TK(t, 2);
    magnitude += std::abs(inputs_TK(t, 1));
  }
  EXPECT_NEAR(gram_KK(0, 2), product, 7 * 0x1p-24 * 120);
  EXPECT_DOUBLE_EQ(magnitude_K[1], magnitude);
}

TEST_P(Gram, SumsMagnitudesInDouble) {
  // In fp32 2^24 + 1 = 2^24.
  Matrix<float> inputs_TK(3, 1);
  inputs_TK(0, 0) = -0x1p24f;
  inputs_TK(1, 0) = 1.0f;
  inputs_TK(2, 0) = -1.0f;
  EXPECT_EQ(accumulate(inputs_TK, exec_).magnitude_K[0], 16777218.0);
}

TEST_P(Gram, SkipsAndCountsRowsThatAreNotFinite) {
  Matrix<float> inputs_TK = test::normal_matrix(2100, 21, 14);
  inputs_TK(0, 20) = std::numeric_limits<float>::quiet_NaN();
  inputs_TK(2050, 3) = -std::numeric_limits<float>::infinity();
  const Sums sums = accumulate(inputs_TK, exec_);
  EXPECT_EQ(sums.count.rows, 2098);
  EXPECT_EQ(sums.count.nonfinite_rows, 2);
  const bool counts_rows = GetParam() == "cpu";  // a GPU does not say which they were
  EXPECT_EQ(sums.count.first_nonfinite_row, counts_rows ? 0 : -1);
  for (Index k = 0; k < 21; ++k) inputs_TK(0, k) = inputs_TK(2050, k) = 0.0f;
  expect_upper_triangle_near(inputs_TK, sums.gram_KK);

  Matrix<BFloat16> bf16_TK = as_bfloat16(inputs_TK);
  bf16_TK(9, 9) = {0x7f80};   // infinity
  bf16_TK(10, 0) = {0xffc1};  // NaN
  const GramCount bf16_count = accumulate(bf16_TK, exec_).count;
  EXPECT_EQ(bf16_count.nonfinite_rows, 2);
  EXPECT_EQ(bf16_count.first_nonfinite_row, counts_rows ? 9 : -1);
  bf16_TK(9, 9) = bf16_TK(10, 0) = {};
  bf16_TK(2060, 1) = {0x7f80};  // in the second block of rows
  EXPECT_EQ(accumulate(bf16_TK, exec_).count.first_nonfinite_row, counts_rows ? 2060 : -1);
}

TEST_P(Gram, DoesNotDependOnTheNumberOfThreads) {
  const Matrix<float> inputs_TK = correlated_inputs(3001, 415, 5, 15);
  const Sums one = accumulate(inputs_TK, open_exec(GetParam(), 1));
  const Sums three = accumulate(inputs_TK, open_exec(GetParam(), 3));
  EXPECT_TRUE(test::same_bytes(one.gram_KK, three.gram_KK));
  EXPECT_EQ(one.magnitude_K, three.magnitude_K);
}

TEST_P(Gram, ReadsAViewWithAStride) {
  const Matrix<float> wide_TK = test::normal_matrix(40, 30, 16);
  Matrix<float> narrow_TK = Matrix<float>::copy_of(wide_TK.view().cols(7, 12));
  Matrix<float> gram_KK(12, 12);
  std::vector<double> magnitude_K(12);
  accumulate_gram(wide_TK.view().cols(7, 12), gram_KK, magnitude_K, exec_);
  expect_upper_triangle_near(narrow_TK, gram_KK);
}

TEST_P(Gram, RefusesAGramMatrixOfAnotherSize) {
  const Matrix<float> inputs_TK = test::normal_matrix(2, 3, 17);
  Matrix<float> gram_KK(4, 4);
  std::vector<double> magnitude_K(3);
  try {
    accumulate_gram(inputs_TK.view(), gram_KK, magnitude_K, exec_);
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kInternal);
    EXPECT_THAT(error.what(), ::testing::HasSubstr("gram_KK is 4 x 4, expected 3 x 3"));
  }
}

// fp32 products summed over at most 2 K terms (K here 401) of mixed sign; the bound is relative to
// the same form with all entries positive.
TEST_P(Gram, EnergyIsTheQuadraticFormOfTheUpperTriangle) {
  const Matrix<float> hessian_KK = test::damped_hessian(correlated_inputs(90, 401, 5, 18), 0.01);
  const Matrix<float> rows_NK = test::normal_matrix(131, 401, 19);
  Matrix<float> upper_KK = hessian_KK.clone();
  Matrix<float> magnitude_KK = hessian_KK.clone();
  Matrix<float> magnitude_NK = rows_NK.clone();
  for (Index i = 0; i < 401; ++i)
    for (Index j = 0; j < i; ++j) upper_KK(i, j) = 1e30f;  // must not be read
  for (Index i = 0; i < magnitude_KK.size(); ++i)
    magnitude_KK.data()[i] = std::abs(magnitude_KK.data()[i]);
  for (Index i = 0; i < magnitude_NK.size(); ++i)
    magnitude_NK.data()[i] = std::abs(magnitude_NK.data()[i]);
  EXPECT_NEAR(gram_energy(rows_NK, upper_KK, exec_), test::quadratic_form(rows_NK, hessian_KK),
              2 * 401 * 0x1p-24 * test::quadratic_form(magnitude_NK, magnitude_KK));
}

// The same additions in the same order.
TEST_P(Gram, ASumOfManyCallsIsThatOfItsCalls) {
  const Matrix<float> first_TK = correlated_inputs(2100, 61, 5, 31);
  const Matrix<float> second_TK = correlated_inputs(40, 61, 5, 32);
  const Matrix<BFloat16> third_TK = as_bfloat16(correlated_inputs(7, 61, 5, 33));
  GramSum sum(61, exec_);
  sum.add(first_TK.view());
  sum.add(second_TK.view());
  sum.add(third_TK.view());
  const GramSum::Result result = sum.finish();

  Sums calls{Matrix<float>(61, 61), std::vector<double>(61), {}};
  accumulate_gram(first_TK.view(), calls.gram_KK, calls.magnitude_K, exec_);
  accumulate_gram(second_TK.view(), calls.gram_KK, calls.magnitude_K, exec_);
  accumulate_gram(third_TK.view(), calls.gram_KK, calls.magnitude_K, exec_);
  EXPECT_TRUE(test::same_bytes(result.gram_KK, calls.gram_KK));
  EXPECT_EQ(result.magnitude_K, calls.magnitude_K);
  EXPECT_EQ(result.count.rows, 2147);
  EXPECT_EQ(result.count.nonfinite_rows, 0);
}

TEST_P(Gram, ASumCountsRowsThatAreNotFinite) {
  Matrix<float> inputs_TK = test::normal_matrix(5, 3, 34);
  inputs_TK(3, 1) = std::numeric_limits<float>::infinity();
  GramSum sum(3, exec_);
  sum.add(inputs_TK.view());
  sum.add(inputs_TK.view());
  const GramSum::Result result = sum.finish();
  EXPECT_EQ(result.count.rows, 8);
  EXPECT_EQ(result.count.nonfinite_rows, 2);
}

TEST_P(Gram, ASumWithoutRowsIsZero) {
  const GramSum::Result result = GramSum(4, exec_).finish();
  EXPECT_TRUE(test::same_bytes(result.gram_KK, Matrix<float>(4, 4)));
  EXPECT_EQ(result.magnitude_K, std::vector<double>(4));
  EXPECT_EQ(result.count.rows, 0);
}

TEST_P(Gram, ASumRefusesRowsOfAnotherDevice) {
  const float row[3] = {};
  GramSum sum(3, exec_);
  try {
    sum.add(DeviceRows{.data = row, .rows = 1, .cols = 3, .stride = 3, .device = 63});
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kInternal);
    EXPECT_THAT(error.what(),
                ::testing::HasSubstr("rows on cuda:63 were given to sums on " + exec_.name()));
  }
}

TEST_P(Gram, ASumRefusesRowsOfAnotherWidth) {
  const Matrix<float> inputs_TK(2, 4);
  GramSum sum(3, exec_);
  EXPECT_THROW(sum.add(inputs_TK.view()), Error);
}

CALQUE_ON_EVERY_DEVICE(Gram);

}  // namespace
}  // namespace calque
