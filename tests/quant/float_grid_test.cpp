// Grids of floating-point numbers, against matrices that compressed-tensors 0.20.1 rounded
// (tests/fixtures/artifacts/compressed_tensors_floats) and by their properties.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <string>
#include <vector>

#include "calque/core/small_float.h"
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
  Grid grid;
};
void PrintTo(const Scheme& scheme, std::ostream* out) { *out << scheme.name; }

Grid fp8_grid(Index group_size, Index scale_rows) {
  return {.bits = 8,
          .group_size = group_size,
          .precision = ScalePrecision::kF32,
          .number = SmallFloat::kE4M3,
          .scale_rows = scale_rows};
}

Grid coded_grid(SmallFloat number, Index group_size, ScalePrecision precision) {
  return {.bits = info_of(number).bits,
          .group_size = group_size,
          .precision = precision,
          .number = number};
}

// The codes and scales of the package's module "m".
struct Golden {
  std::vector<std::uint8_t> codes;
  std::vector<float> scales;
};

Golden golden_of(const io::SafetensorsFile& file) {
  Golden golden;
  const io::TensorRef* nibbles = file.find("m.weight_packed");
  const io::TensorRef& bytes = nibbles != nullptr ? *nibbles : *file.find("m.weight");
  for (const std::byte byte : bytes.bytes) {
    const auto code = static_cast<std::uint8_t>(byte);
    if (nibbles == nullptr)
      golden.codes.push_back(code);
    else
      golden.codes.insert(golden.codes.end(), {std::uint8_t(code & 0xf), std::uint8_t(code >> 4)});
  }
  const io::TensorRef& scales = *file.find("m.weight_scale");
  const io::TensorRef* divisor = file.find("m.weight_global_scale");
  for (Index i = 0; i < scales.element_count(); ++i) {
    const auto code = static_cast<std::uint8_t>(scales.bytes[static_cast<std::size_t>(i)]);
    if (scales.dtype == DType::kF32)
      golden.scales.push_back(reinterpret_cast<const float*>(scales.bytes.data())[i]);
    else if (divisor == nullptr)
      golden.scales.push_back(std::ldexp(1.0f, code - 127));
    else
      golden.scales.push_back(values_of(SmallFloat::kE4M3)[code] /
                              *reinterpret_cast<const float*>(divisor->bytes.data()));
  }
  return golden;
}

class FloatSchemes : public ::testing::TestWithParam<Scheme> {
 protected:
  static io::SafetensorsFile file(const std::string& name) {
    return io::SafetensorsFile(std::filesystem::path(test::fixtures()) / "artifacts" /
                               "compressed_tensors_floats" / (name + ".safetensors"));
  }
  Grid grid_ = GetParam().grid;
  Exec exec_ = open_exec("cpu", 2);
};
INSTANTIATE_TEST_SUITE_P(
    All, FloatSchemes,
    ::testing::Values(Scheme{"FP8_DYNAMIC", fp8_grid(-1, 1)},
                      Scheme{"FP8", fp8_grid(-1, Grid::kAllRows)},
                      Scheme{"FP8_BLOCK", fp8_grid(128, 128)},
                      Scheme{"NVFP4", coded_grid(SmallFloat::kE2M1, 16, ScalePrecision::kE4M3)},
                      Scheme{"MXFP4", coded_grid(SmallFloat::kE2M1, 32, ScalePrecision::kE8M0)},
                      Scheme{"MXFP8", coded_grid(SmallFloat::kE4M3, 32, ScalePrecision::kE8M0)}),
    [](const auto& tested) { return tested.param.name; });

TEST_P(FloatSchemes, RoundToThePackagesCodesAndScales) {
  const Matrix<float> weight = io::to_matrix(*file("weight").find("weight"));
  const Golden golden = golden_of(file(GetParam().name));
  const Rounded rounded =
      make_rtn({.scale_rule = ScaleRule::kMinMax})({}, exec_)(weight.clone(), grid_);
  const GroupCodes& q = rounded.matrix.groups();
  ASSERT_EQ(std::ssize(golden.codes), q.codes_NK.size());
  EXPECT_TRUE(std::equal(golden.codes.begin(), golden.codes.end(), q.codes_NK.data()));
  const Index scale_rows = grid_.scale_rows_for(weight.rows());
  for (Index n = 0; n < weight.rows(); ++n)
    for (Index g = 0; g < q.scales_NG.cols(); ++g)
      ASSERT_EQ(q.scales_NG(n, g),
                golden.scales[static_cast<std::size_t>(n / scale_rows * q.scales_NG.cols() + g)]);
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

// Matrices that a runtime fuses have one divisor; a search leaves room above the largest scale.
TEST(SharedScale, DividesTheScalesOfAllItsMatrices) {
  const Matrix<float> small = test::normal_matrix(5, 64, 7),
                      large = test::normal_matrix(9, 64, 8, 3);
  const MatrixView<const float> both[] = {small.view(), large.view()};
  const Exec exec = open_exec("cpu", 1);
  Grid grid = coded_grid(SmallFloat::kE2M1, 16, ScalePrecision::kE4M3);
  float peak = 0;
  for (Index i = 0; i < large.size(); ++i) peak = std::max(peak, std::abs(large.data()[i]));
  EXPECT_EQ(shared_scale(both, grid, ScaleRule::kMinMax, {}, exec), 448 * 6 / peak);
  grid.given_scale = shared_scale(both, grid, ScaleRule::kSearch, {}, exec);
  EXPECT_EQ(grid.given_scale, 256 * 6 / peak);
  const Rounded rounded = make_rtn({})({}, exec)(small.clone(), grid);
  EXPECT_EQ(rounded.matrix.groups().scale_divisor, grid.given_scale);
  for (Index n = 0; n < 5; ++n)
    for (Index g = 0; g < 4; ++g) {
      const float number = rounded.matrix.groups().scales_NG(n, g) * grid.given_scale;
      EXPECT_NEAR(rounded_to(SmallFloat::kE4M3, number), number, number * 0x1p-22f);
    }
}

TEST(FloatGrid, IsDescribed) {
  EXPECT_EQ(coded_grid(SmallFloat::kE2M1, 16, ScalePrecision::kE4M3).description(),
            "FP4, group 16, FP8 scales");
  EXPECT_EQ(coded_grid(SmallFloat::kE2M1, 32, ScalePrecision::kE8M0).description(),
            "FP4, group 32, power-of-two scales");
  EXPECT_EQ(fp8_grid(-1, 1).description(), "FP8, whole rows, f32 scales");
  EXPECT_EQ(fp8_grid(-1, Grid::kAllRows).description(), "FP8, whole rows of one scale, f32 scales");
  EXPECT_EQ(fp8_grid(128, 128).description(), "FP8, group 128 of 128 rows, f32 scales");
}

}  // namespace
}  // namespace calque::quant
