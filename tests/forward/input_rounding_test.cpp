#include "calque/forward/input_rounding.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <string>
#include <vector>

#include "calque/io/safetensors.h"
#include "forward/runner_fixture.h"
#include "support/paths.h"

namespace calque::forward {
namespace {

struct Golden {
  std::string scheme;
  InputGrid grid;
};
void PrintTo(const Golden& golden, std::ostream* out) { *out << golden.scheme; }

using Scale = InputGrid::Scale;

// Inputs as compressed-tensors 0.20.1 rounds them for these schemes.
class GoldenInputs : public ::testing::TestWithParam<Golden> {};
INSTANTIATE_TEST_SUITE_P(
    All, GoldenInputs,
    ::testing::Values(Golden{"FP8_DYNAMIC", {Scale::kToken, SmallFloat::kE4M3}},
                      Golden{"FP8", {Scale::kTensor, SmallFloat::kE4M3}},
                      Golden{"FP8_BLOCK", {Scale::kGroup, SmallFloat::kE4M3, 128}},
                      Golden{"MXFP4", {Scale::kPower, SmallFloat::kE2M1, 32}},
                      Golden{"MXFP8", {Scale::kPower, SmallFloat::kE4M3, 32}},
                      Golden{"NVFP4", {Scale::kCoded, SmallFloat::kE2M1, 16}}),
    [](const auto& tested) { return tested.param.scheme; });

TEST_P(GoldenInputs, AreRoundedAsThePackageDoes) {
  const io::SafetensorsFile file(std::filesystem::path(test::fixtures()) / "artifacts" /
                                 "compressed_tensors_floats" /
                                 (GetParam().scheme + ".safetensors"));
  InputGrid grid = GetParam().grid;
  for (const char* name : {"m.input_scale", "m.input_global_scale"})
    if (const io::TensorRef* scale = file.find(name))
      convert_to_float(scale->bytes.data(), scale->dtype, 1, &grid.scale);
  Matrix<float> inputs_TK = io::to_matrix(*file.find("x"));
  const Matrix<float> expected_TK = io::to_matrix(*file.find("x_fake_quantized"));
  round_inputs(grid, inputs_TK);
  for (Index i = 0; i < inputs_TK.size(); ++i)
    ASSERT_EQ(inputs_TK.data()[i], expected_TK.data()[i]) << i;
}

std::vector<float> rounded(const InputGrid& grid, std::vector<float> row) {
  round_inputs(grid, MatrixView<float>(row.data(), 1, static_cast<Index>(row.size())));
  return row;
}

// By hand: the scale is 254 / 127 = 2, and 3 is a tie between 1 and 2.
TEST(RoundInputs, ToIntegersWithAScaleAToken) {
  EXPECT_EQ(rounded({Scale::kToken}, {-254, 3, 5, 0.9f, 100.2f}),
            (std::vector<float>{-254, 4, 4, 0, 100}));
}

TEST(RoundInputs, CutsAtACalibratedScale) {
  EXPECT_EQ(rounded({Scale::kTensor, SmallFloat::kE4M3, 0, 0.5f}, {1000, -1000, 1}),
            (std::vector<float>{224, -224, 1}));
}

TEST(RoundInputs, LeavesZerosAlone) {
  EXPECT_EQ(rounded({Scale::kToken, SmallFloat::kE4M3}, {0, 0}), (std::vector<float>{0, 0}));
}

}  // namespace
}  // namespace calque::forward
