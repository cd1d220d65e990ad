#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>

#include "calque/core/error.h"
#include "calque/kernels/gram.h"
#include "calque/quant/methods.h"
#include "quant/site_samples.h"

// Properties of every rounding method on every kind of grid.

namespace calque::quant {
namespace {

constexpr Index kRows = 67;
constexpr Index kColumns = 384;

const Rounding& rounding_named(std::string_view name) {
  for (const Rounding* rounding : roundings())
    if (rounding->name == name) return *rounding;
  throw Error(ErrorKind::kInternal, "", "no such rounding");
}

std::vector<Grid> grids() {
  std::vector<Grid> all;
  for (const int bits : {2, 3, 4, 5, 8})
    for (const Index group : {32, 64, 128, -1})
      for (const OffsetKind kind :
           {OffsetKind::kMiddleCode, OffsetKind::kZeroPoint, OffsetKind::kMinimum})
        all.push_back({.bits = bits, .group_size = group, .offset_kind = kind});
  return all;
}

const quant::InputStats& sample_stats() {
  static const quant::InputStats kStats =
      test::stats_of(test::correlated_inputs(900, kColumns, 8, 1));
  return kStats;
}

Rounded round(std::string_view method, const Matrix<float>& weight_NK, const Grid& grid,
              int threads = 2) {
  return rounding_named(method).make({.refine_passes = 0})(
      sample_stats().clone(), open_exec("cpu", threads))(weight_NK.clone(), grid);
}

Matrix<float> error_of(const QuantizedMatrix& q, const Matrix<float>& weight_NK) {
  Matrix<float> error = dequantize(q);
  for (Index i = 0; i < error.size(); ++i) error.data()[i] -= weight_NK.data()[i];
  return error;
}

// Every group holds its lowest and highest code, so that the grid can be seen from the weights.
Matrix<float> weights_on(const Grid& grid) {
  const Index group = grid.group_size_for(kColumns);
  std::mt19937 generator(2);
  Matrix<float> weight(kRows, kColumns);
  for (Index n = 0; n < kRows; ++n)
    for (Index g = 0; g < kColumns / group; ++g) {
      // 3 bits of scale and 8 of zero point: even their product, a minimum, fits binary16.
      const float scale = 0x1p-10f * static_cast<float>(1 + generator() % 7);
      const int zero = grid.offset_kind == OffsetKind::kMiddleCode
                           ? 1 << (grid.bits - 1)
                           : static_cast<int>(generator() % (1u << grid.bits));
      for (Index k = 0; k < group; ++k) {
        int code = static_cast<int>(generator() % (1u << grid.bits));
        if (k == 5) code = 0;
        if (k == 6) code = grid.max_code();
        weight(n, g * group + k) = scale * static_cast<float>(code - zero);
      }
    }
  return weight;
}

class EveryRounder : public ::testing::TestWithParam<std::string> {};

TEST_P(EveryRounder, ReturnsWeightsThatAreOnTheGrid) {
  for (const Grid& grid : grids()) {
    const Matrix<float> weight = weights_on(grid);
    const Rounded rounded = round(GetParam(), weight, grid);
    EXPECT_TRUE(test::same_bytes(error_of(rounded.matrix, weight), Matrix<float>(kRows, kColumns)))
        << grid.description();
    EXPECT_EQ(rounded.report.relative_error, 0.0) << grid.description();
  }
}

TEST_P(EveryRounder, FillsTheNeutralForm) {
  const Matrix<float> weight = test::normal_matrix(kRows, kColumns, 3, 0.02f);
  for (const Grid& grid : grids()) {
    const QuantizedMatrix q = round(GetParam(), weight, grid).matrix;
    EXPECT_EQ(q.grid, grid);
    ASSERT_EQ(q.out_features(), kRows);
    ASSERT_EQ(q.in_features(), kColumns);
    ASSERT_EQ(q.groups().scales_NG.cols(), grid.groups(kColumns));
    ASSERT_EQ(q.groups().offsets_NG.cols(), grid.groups(kColumns));
    int highest = 0;
    for (Index i = 0; i < q.groups().codes_NK.size(); ++i)
      highest = std::max<int>(highest, q.groups().codes_NK.data()[i]);
    EXPECT_EQ(highest, grid.max_code());
    for (Index i = 0; i < q.groups().scales_NG.size(); ++i)
      EXPECT_EQ(q.groups().scales_NG.data()[i], rounded_to_half(q.groups().scales_NG.data()[i]));
    if (grid.offset_kind == OffsetKind::kMinimum) continue;
    const Matrix<std::uint8_t> zeros = q.groups().zeros_NG();
    for (Index i = 0; i < zeros.size(); ++i)
      EXPECT_EQ(q.groups().offsets_NG.data()[i], -q.groups().scales_NG.data()[i] * zeros.data()[i]);
  }
}

// The reported loss of GPTQ is the sweep's, kept in fp32: K sums of relative error 2^-24 each, and
// up to 10 times as much where the damping takes the larger share: 384 * 2^-24 * 10 = 2e-4.
TEST_P(EveryRounder, ReportsTheLossOfItsResult) {
  const Matrix<float> weight = test::normal_matrix(kRows, kColumns, 4, 0.02f);
  const Exec exec = open_exec("cpu", 1);
  for (const Grid& grid : grids()) {
    const Rounded rounded = round(GetParam(), weight, grid);
    const double loss = gram_energy(error_of(rounded.matrix, weight), sample_stats().gram_KK, exec);
    const double energy = gram_energy(weight, sample_stats().gram_KK, exec);
    EXPECT_EQ(rounded.report.method, GetParam());
    EXPECT_NEAR(rounded.report.loss, loss / 900, 2e-4 * loss / 900) << grid.description();
    EXPECT_NEAR(rounded.report.relative_error, loss / energy, 2e-4 * loss / energy);
    EXPECT_EQ(rounded.report.fallback_reason, "");
  }
}

TEST_P(EveryRounder, GivesTheSameBytesForAnyNumberOfThreads) {
  const Matrix<float> weight = test::normal_matrix(131, kColumns, 5, 0.02f);
  for (const Grid& grid : grids()) {
    const Rounded one = round(GetParam(), weight, grid, 1);
    const Rounded two = round(GetParam(), weight, grid, 2);
    EXPECT_TRUE(test::same_bytes(one.matrix.groups().codes_NK, two.matrix.groups().codes_NK))
        << grid.description();
    EXPECT_TRUE(test::same_bytes(one.matrix.groups().scales_NG, two.matrix.groups().scales_NG));
    EXPECT_TRUE(test::same_bytes(one.matrix.groups().offsets_NG, two.matrix.groups().offsets_NG));
    EXPECT_EQ(one.report.loss, two.report.loss);
  }
}

TEST_P(EveryRounder, IsNoWorseThanPlainRounding) {
  const Matrix<float> weight = test::normal_matrix(kRows, kColumns, 6, 0.02f);
  const Rounder plain = make_rtn({.scale_rule = ScaleRule::kMinMax});
  for (const Grid& grid : grids()) {
    const Rounded baseline =
        plain(sample_stats().clone(), open_exec("cpu", 2))(weight.clone(), grid);
    EXPECT_LT(round(GetParam(), weight, grid).report.loss, baseline.report.loss)
        << grid.description();
  }
}

TEST_P(EveryRounder, WorksWithoutStatistics) {
  const quant::InputStats none;
  const Matrix<float> weight = test::normal_matrix(kRows, kColumns, 7, 0.02f);
  const Rounded rounded =
      rounding_named(GetParam())
          .make({.refine_passes = 0})(none.clone(), open_exec("cpu", 1))(weight.clone(), Grid{});
  double error = 0, energy = 0;
  const Matrix<float> difference = error_of(rounded.matrix, weight);
  for (Index i = 0; i < weight.size(); ++i) {
    error += std::pow(difference.data()[i], 2.0);
    energy += std::pow(weight.data()[i], 2.0);
  }
  EXPECT_NEAR(rounded.report.relative_error, error / energy, 1e-12);
  EXPECT_EQ(rounded.report.loss, 0.0);
}

TEST_P(EveryRounder, NamesTheWeightThatIsNotFinite) {
  Matrix<float> weight = test::normal_matrix(kRows, kColumns, 8, 0.02f);
  weight(11, 33) = std::numeric_limits<float>::quiet_NaN();
  try {
    round(GetParam(), weight, Grid{});
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kNumerical);
    EXPECT_THAT(error.what(), ::testing::HasSubstr("row 11, column 33 is nan"));
  }
}

TEST_P(EveryRounder, RefusesAGroupSizeThatDoesNotDivide) {
  const Matrix<float> weight = test::normal_matrix(3, kColumns, 9);
  try {
    round(GetParam(), weight, {.group_size = 100});
    FAIL();
  } catch (const Error& error) {
    EXPECT_THAT(error.what(),
                ::testing::HasSubstr("group size 100 does not divide the 384 inputs"));
  }
}

std::vector<std::string> rounding_names() {
  std::vector<std::string> names;
  for (const Rounding* rounding : roundings()) names.emplace_back(rounding->name);
  return names;
}

INSTANTIATE_TEST_SUITE_P(Methods, EveryRounder, ::testing::ValuesIn(rounding_names()),
                         [](const auto& test) { return test.param; });

}  // namespace
}  // namespace calque::quant
