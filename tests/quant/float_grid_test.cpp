// Grids of floating-point numbers, against matrices that compressed-tensors 0.20.1 rounded
// (tests/fixtures/artifacts/compressed_tensors_floats) and by their properties.
#include <gtest/gtest.h>

#include <algorithm>
#include <string>

#include "calque/io/safetensors.h"
#include "calque/kernels/gram.h"
#include "calque/quant/methods.h"
#include "calque/quant/shared_scale.h"
#include "quant/site_samples.h"
#include "support/paths.h"

namespace calque::quant {
namespace {

struct Scheme {
  std::string name;
  Index group_size, scale_rows;
};
void PrintTo(const Scheme& scheme, std::ostream* out) { *out << scheme.name; }

Grid fp8_grid(Index group_size, Index scale_rows) {
  return {.bits = 8,
          .group_size = group_size,
          .precision = ScalePrecision::kF32,
          .number = SmallFloat::kE4M3,
          .scale_rows = scale_rows};
}

class FloatSchemes : public ::testing::TestWithParam<Scheme> {
 protected:
  static io::SafetensorsFile file(const std::string& name) {
    return io::SafetensorsFile(std::filesystem::path(test::fixtures()) / "artifacts" /
                               "compressed_tensors_floats" / (name + ".safetensors"));
  }
  Grid grid_ = fp8_grid(GetParam().group_size, GetParam().scale_rows);
  Exec exec_ = open_exec("cpu", 2);
};
INSTANTIATE_TEST_SUITE_P(All, FloatSchemes,
                         ::testing::Values(Scheme{"FP8_DYNAMIC", -1, 1},
                                           Scheme{"FP8", -1, Grid::kAllRows},
                                           Scheme{"FP8_BLOCK", 128, 128}),
                         [](const auto& tested) { return tested.param.name; });

TEST_P(FloatSchemes, RoundToThePackagesCodesAndScales) {
  const Matrix<float> weight = io::to_matrix(*file("weight").find("weight"));
  const io::SafetensorsFile golden = file(GetParam().name);
  const Rounded rounded =
      make_rtn({.scale_rule = ScaleRule::kMinMax})({}, exec_)(weight.clone(), grid_);
  const GroupCodes& q = rounded.matrix.groups();
  const io::TensorRef& codes = *golden.find("m.weight");
  ASSERT_EQ(codes.dtype, DType::kF8E4M3);
  ASSERT_EQ(codes.bytes.size(), static_cast<std::size_t>(q.codes_NK.size()));
  EXPECT_TRUE(std::equal(codes.bytes.begin(), codes.bytes.end(),
                         std::as_bytes(std::span(q.codes_NK.data(), codes.bytes.size())).begin()));
  const io::TensorRef& scales = *golden.find("m.weight_scale");
  const Index scale_rows = grid_.scale_rows_for(weight.rows());
  const auto* stored = reinterpret_cast<const float*>(scales.bytes.data());
  for (Index n = 0; n < weight.rows(); ++n)
    for (Index g = 0; g < q.scales_NG.cols(); ++g)
      ASSERT_EQ(q.scales_NG(n, g), stored[n / scale_rows * q.scales_NG.cols() + g]);
}

// With feedback the loss under correlated inputs is lower than to nearest, with and without rows
// that share scales, and all rows that share one still do.
TEST_P(FloatSchemes, GptqLowersTheLoss) {
  const Matrix<float> weight = test::normal_matrix(150, 256, 3);
  const InputStats stats = test::stats_of(test::correlated_inputs(700, 256, 8, 4));
  const Rounded nearest = make_rtn({})(stats.clone(), exec_)(weight.clone(), grid_);
  const Rounded moved = make_gptq({})(stats.clone(), exec_)(weight.clone(), grid_);
  EXPECT_EQ(moved.report.method, "gptq");
  EXPECT_LT(moved.report.loss, 0.5 * nearest.report.loss);
  const Matrix<float>& scales = moved.matrix.groups().scales_NG;
  const Index scale_rows = grid_.scale_rows_for(weight.rows());
  for (Index n = 0; n < weight.rows(); ++n)
    for (Index g = 0; g < scales.cols(); ++g)
      ASSERT_EQ(scales(n, g), scales(n / scale_rows * scale_rows, g));
}

// Strips of rows are rounded one after another, and have the scale of the whole matrix.
TEST_P(FloatSchemes, GptqDoesNotDependOnStrips) {
  const Matrix<float> weight = test::normal_matrix(300, 256, 5);
  const InputStats stats = test::stats_of(test::correlated_inputs(700, 256, 8, 6));
  const Rounded whole = make_gptq({})(stats.clone(), exec_)(weight.clone(), grid_);
  const Rounded strips =
      make_gptq({.strip_weights = 1})(stats.clone(), exec_)(weight.clone(), grid_);
  const Matrix<float> a = dequantize(whole.matrix), b = dequantize(strips.matrix);
  for (Index i = 0; i < a.size(); ++i) ASSERT_EQ(a.data()[i], b.data()[i]) << i;
}

TEST(SharedScale, CoversAllItsMatrices) {
  const Matrix<float> small = test::normal_matrix(5, 64, 7),
                      large = test::normal_matrix(9, 64, 8, 3);
  const MatrixView<const float> both[] = {small.view(), large.view()};
  const Exec exec = open_exec("cpu", 1);
  Grid grid = fp8_grid(-1, Grid::kAllRows);
  grid.given_scale = shared_scale(both, grid, ScaleRule::kMinMax, {}, exec);
  float peak = 0;
  for (Index i = 0; i < large.size(); ++i) peak = std::max(peak, std::abs(large.data()[i]));
  EXPECT_EQ(grid.given_scale, peak / 448);
  const Rounded rounded = make_rtn({})({}, exec)(small.clone(), grid);
  for (Index n = 0; n < 5; ++n)
    EXPECT_EQ(rounded.matrix.groups().scales_NG(n, 0), grid.given_scale);
}

TEST(FloatGrid, IsDescribed) {
  EXPECT_EQ(fp8_grid(-1, 1).description(), "FP8, whole rows, f32 scales");
  EXPECT_EQ(fp8_grid(-1, Grid::kAllRows).description(), "FP8, whole rows of one scale, f32 scales");
  EXPECT_EQ(fp8_grid(128, 128).description(), "FP8, group 128 of 128 rows, f32 scales");
}

}  // namespace
}  // namespace calque::quant
