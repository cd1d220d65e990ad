// Grids of floating-point numbers: the operations against the definition, element by element.
#include <gtest/gtest.h>

#include <cmath>
#include <numeric>

#include "calque/core/dtype.h"
#include "calque/core/error.h"
#include "calque/core/small_float.h"
#include "calque/kernels/gptq_sweep.h"
#include "calque/kernels/inverse_cholesky.h"
#include "calque/kernels/refine_grid.h"
#include "calque/kernels/round_to_grid.h"
#include "calque/kernels/scale_search.h"
#include "support/samples.h"

namespace calque {
namespace {

constexpr Index kRows = 70;
constexpr Index kColumns = 96;

class FloatGrid : public ::testing::TestWithParam<SmallFloat> {
 protected:
  // Column 7 is large and row 3 small, so that both ends of the numbers are used.
  static Matrix<float> weights() {
    Matrix<float> weight = test::normal_matrix(kRows, kColumns, 71);
    for (Index n = 0; n < kRows; ++n) weight(n, 7) *= 40;
    for (Index k = 0; k < kColumns; ++k) weight(3, k) *= 1e-3f;
    return weight;
  }
  Matrix<float> scales_by(ScaleRule rule, Index group, Index rows,
                          std::span<const float> importance_K = {}) const {
    Matrix<float> scales(kRows, kColumns / group);
    const MatrixView<const float> weight_NK = weight_.view();
    float_scale_search({.weights = {&weight_NK, 1},
                        .number = number_,
                        .group_size = group,
                        .scale_rows = rows,
                        .precision = ScalePrecision::kF32,
                        .rule = rule,
                        .scales_NG = scales},
                       importance_K, exec_);
    return scales;
  }
  GridView grid_of(const Matrix<float>& scales, const std::vector<std::int32_t>& groups) const {
    return {.scales_NG = scales,
            .offsets_NG = offsets_.view().cols(0, scales.cols()),
            .group_of_column_K = groups,
            .max_code = info_of(number_).max_code(),
            .number = number_};
  }
  double squared_error(const Matrix<float>& scales, Index group) const {
    double total = 0;
    for (Index n = 0; n < kRows; ++n)
      for (Index k = 0; k < kColumns; ++k) {
        const float scale = scales(n, k / group);
        const double error = weight_(n, k) - scale * rounded_to(number_, weight_(n, k) / scale);
        total += error * error;
      }
    return total;
  }

  SmallFloat number_ = GetParam();
  Exec exec_ = open_exec("cpu", 2);
  Matrix<float> weight_ = weights();
  Matrix<float> offsets_{kRows, kColumns};
};
INSTANTIATE_TEST_SUITE_P(Numbers, FloatGrid,
                         ::testing::Values(SmallFloat::kE2M1, SmallFloat::kE4M3),
                         [](const auto& tested) {
                           return std::string(info_of(tested.param).name);
                         });

TEST_P(FloatGrid, RoundsToTheNearestNumber) {
  const Matrix<float> scales = scales_by(ScaleRule::kMinMax, 48, 1);
  Matrix<std::uint8_t> codes(kRows, kColumns);
  round_to_grid(weight_, grid_of(scales, test::groups_of(kColumns, 48)), codes, exec_);
  for (Index n = 0; n < kRows; ++n)
    for (Index k = 0; k < kColumns; ++k)
      ASSERT_EQ(codes(n, k), code_of(number_, weight_(n, k) / scales(n, k / 48))) << n << ", " << k;
}

TEST_P(FloatGrid, CoversTheWeightsOfRowsThatShareAScale) {
  const Matrix<float> scales = scales_by(ScaleRule::kMinMax, 48, 32);
  for (Index n = 0; n < kRows; ++n)
    for (Index g = 0; g < 2; ++g) {
      float peak = 0;
      for (Index r = n / 32 * 32; r < std::min<Index>(kRows, n / 32 * 32 + 32); ++r)
        for (Index k = 48 * g; k < 48 * (g + 1); ++k)
          peak = std::max(peak, std::abs(weight_(r, k)));
      ASSERT_EQ(scales(n, g), peak / info_of(number_).largest);
    }
}

TEST_P(FloatGrid, SearchIsNeverWorseThanCovering) {
  for (const Index rows : {Index{1}, Index{32}, kRows}) {
    const double covering = squared_error(scales_by(ScaleRule::kMinMax, 48, rows), 48);
    const double searched = squared_error(scales_by(ScaleRule::kSearch, 48, rows), 48);
    EXPECT_LT(searched, covering) << rows;
  }
}

// Matrices on top of each other have the scale of the whole.
TEST_P(FloatGrid, SearchesStackedMatricesAsOne) {
  const Matrix<float> whole = scales_by(ScaleRule::kSearch, kColumns, kRows);
  const MatrixView<const float> parts[] = {weight_.view().rows(0, 11),
                                           weight_.view().rows(11, kRows - 11)};
  Matrix<float> scales(kRows, 1);
  float_scale_search({.weights = parts,
                      .number = number_,
                      .group_size = kColumns,
                      .scale_rows = kRows,
                      .precision = ScalePrecision::kF32,
                      .scales_NG = scales},
                     {}, exec_);
  for (Index n = 0; n < kRows; ++n) ASSERT_EQ(scales(n, 0), whole(0, 0));
}

// The sweep finds the nearest codes where columns do not depend on each other.
TEST_P(FloatGrid, SweepsToTheNearestNumberWithoutCorrelation) {
  Matrix<float> identity(kColumns, kColumns);
  for (Index k = 0; k < kColumns; ++k) identity(k, k) = 1;
  const Matrix<float> scales = scales_by(ScaleRule::kMinMax, 48, 1);
  const std::vector<std::int32_t> groups = test::groups_of(kColumns, 48);
  Matrix<float> swept = weight_.clone();
  Matrix<std::uint8_t> codes(kRows, kColumns), nearest(kRows, kColumns);
  gptq_sweep({.weight_NK = swept,
              .inverse_factor_KK = identity,
              .grid = grid_of(scales, groups),
              .codes_NK = codes},
             exec_);
  round_to_grid(weight_, grid_of(scales, groups), nearest, exec_);
  for (Index i = 0; i < codes.size(); ++i) ASSERT_EQ(codes.data()[i], nearest.data()[i]) << i;
}

// Coordinate descent from the nearest codes lowers the loss under a Hessian and returns it.
TEST_P(FloatGrid, RefinementLowersTheLoss) {
  const Matrix<float> hessian =
      test::damped_hessian(test::correlated_inputs(300, kColumns, 6, 72), 0.01);
  for (const bool moves_scales : {false, true}) {
    Matrix<float> scales = scales_by(ScaleRule::kMinMax, 48, 1);
    const Matrix<float> first_scales = scales.clone();
    Matrix<float> offsets(kRows, 2);
    Matrix<std::uint8_t> codes(kRows, kColumns);
    round_to_grid(weight_, grid_of(scales, test::groups_of(kColumns, 48)), codes, exec_);
    const auto loss = [&] {
      Matrix<float> error(kRows, kColumns);
      for (Index n = 0; n < kRows; ++n)
        for (Index k = 0; k < kColumns; ++k)
          error(n, k) = weight_(n, k) - scales(n, k / 48) * values_of(number_)[codes(n, k)];
      return test::quadratic_form(error, hessian);
    };
    const double start = loss();
    const double returned = refine_grid({.weight_NK = weight_,
                                         .hessian_KK = hessian,
                                         .group_size = 48,
                                         .options = {.precision = ScalePrecision::kF32,
                                                     .max_code = info_of(number_).max_code(),
                                                     .number = number_,
                                                     .moves_scales = moves_scales,
                                                     .passes = 3},
                                         .scales_NG = scales,
                                         .offsets_NG = offsets,
                                         .codes_NK = codes},
                                        exec_);
    EXPECT_LT(returned, 0.8 * start);
    EXPECT_NEAR(returned, loss(), 10 * kColumns * 0x1p-24 * start);
    if (moves_scales) continue;
    for (Index i = 0; i < scales.size(); ++i) ASSERT_EQ(scales.data()[i], first_scales.data()[i]);
  }
}

}  // namespace
}  // namespace calque
