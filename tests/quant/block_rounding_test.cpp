#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>

#include "calque/core/dtype.h"
#include "calque/core/error.h"
#include "calque/io/file.h"
#include "calque/quant/awq.h"
#include "calque/quant/methods.h"
#include "quant/site_samples.h"
#include "support/paths.h"

namespace calque::quant {
namespace {

constexpr Index kRows = 4;  // rows of every fixture

std::string fixture(const std::string& name) {
  return io::read_file(test::fixtures() + "/ggml/" + name);
}

Matrix<float> weights_of(const std::string& tensor) {
  const std::string bytes = fixture(tensor + ".f16");
  const std::size_t count = bytes.size() / 2;
  Matrix<float> weight_NK(kRows, static_cast<Index>(count) / kRows);
  convert_to_float(reinterpret_cast<const std::byte*>(bytes.data()), DType::kF16, count,
                   weight_NK.data());
  return weight_NK;
}

// A site whose inputs have the mean squares of llama-imatrix: 2048 tokens, so that dividing by
// their number loses nothing.
quant::InputStats imatrix_of(const std::string& tensor) {
  const std::string bytes = fixture(tensor + ".importance.f32");
  std::vector<float> mean_square_K(bytes.size() / sizeof(float));
  std::memcpy(mean_square_K.data(), bytes.data(), bytes.size());
  const auto features = static_cast<Index>(mean_square_K.size());
  quant::InputStats stats;
  stats.gram_KK = Matrix<float>(features, features);
  stats.magnitude_K.assign(mean_square_K.size(), 1.0);
  stats.tokens = 2048;
  for (Index k = 0; k < features; ++k)
    stats.gram_KK(k, k) = 2048.0f * mean_square_K[static_cast<std::size_t>(k)];
  return stats;
}

std::string bytes_of(const QuantizedMatrix& q) {
  return {reinterpret_cast<const char*>(q.blocks().rows_NB.data()),
          static_cast<std::size_t>(q.blocks().rows_NB.size())};
}

struct Case {
  std::string tensor;
  std::string type;
  ggml::Type block;
};

void PrintTo(const Case& tested, std::ostream* out) { *out << tested.tensor << "." << tested.type; }

std::string name_of_case(const ::testing::TestParamInfo<Case>& tested) {
  return tested.param.tensor + "_" + tested.param.type;
}

// Bytes that llama-quantize wrote without an importance matrix; see tests/fixtures/ggml/README.md.
class WithoutImportance : public ::testing::TestWithParam<Case> {};

TEST_P(WithoutImportance, RtnGivesTheBytesOfLlamaQuantize) {
  const quant::InputStats none;
  const Rounded rounded = make_rtn({})(none.clone(), open_exec("cpu", 2))(
      weights_of(GetParam().tensor), block_grid(GetParam().block));
  EXPECT_EQ(bytes_of(rounded.matrix), fixture(GetParam().tensor + "." + GetParam().type));
  EXPECT_EQ(rounded.report.method, "rtn");
  EXPECT_EQ(rounded.report.fallback_reason, "");
}

INSTANTIATE_TEST_SUITE_P(All, WithoutImportance,
                         ::testing::Values(Case{"attn_q_0", "Q2_K", ggml::Type::kQ2_K},
                                           Case{"ffn_down_0", "Q3_K", ggml::Type::kQ3_K},
                                           Case{"ffn_down_0", "Q4_K", ggml::Type::kQ4_K},
                                           Case{"ffn_down_0", "Q5_K", ggml::Type::kQ5_K},
                                           Case{"ffn_down_0", "Q6_K", ggml::Type::kQ6_K},
                                           Case{"ffn_down_0", "IQ4_NL", ggml::Type::kIQ4_NL},
                                           Case{"ffn_down_0", "IQ4_XS", ggml::Type::kIQ4_XS}),
                         name_of_case);

// Bytes that llama-quantize wrote with llama-imatrix's matrix.
class WithImportance : public ::testing::TestWithParam<Case> {};

TEST_P(WithImportance, RtnGivesTheBytesOfLlamaQuantize) {
  const quant::InputStats stats = imatrix_of(GetParam().tensor);
  const Rounded rounded = make_rtn({})(stats.clone(), open_exec("cpu", 2))(
      weights_of(GetParam().tensor), block_grid(GetParam().block));
  EXPECT_EQ(bytes_of(rounded.matrix),
            fixture(GetParam().tensor + "." + GetParam().type + ".weighted"));
  EXPECT_EQ(rounded.report.method, "imatrix");
  EXPECT_EQ(rounded.report.fallback_reason, "");
}

INSTANTIATE_TEST_SUITE_P(All, WithImportance,
                         ::testing::Values(Case{"attn_q_0", "Q2_K", ggml::Type::kQ2_K},
                                           Case{"ffn_down_0", "Q3_K", ggml::Type::kQ3_K},
                                           Case{"ffn_down_0", "Q4_K", ggml::Type::kQ4_K},
                                           Case{"ffn_down_1", "Q6_K", ggml::Type::kQ6_K}),
                         name_of_case);

// Without statistics |E|^2 / |W|^2; with a diagonal Gram matrix sum_k G_kk |e_k|^2, both by hand.
TEST(BlockRounding, ReportsTheErrorOfWhatItStored) {
  const Matrix<float> weight_NK = weights_of("ffn_down_0");
  const quant::InputStats none;
  const quant::InputStats stats = imatrix_of("ffn_down_0");
  for (const bool calibrated : {false, true}) {
    const Rounded rounded = make_rtn({})((calibrated ? stats : none).clone(), open_exec("cpu", 1))(
        weight_NK.clone(), block_grid(ggml::Type::kQ4_K));
    const Matrix<float> values_NK = dequantize(rounded.matrix);
    double error = 0;
    double energy = 0;
    for (Index n = 0; n < kRows; ++n)
      for (Index k = 0; k < weight_NK.cols(); ++k) {
        const double weight = calibrated ? static_cast<double>(stats.gram_KK(k, k)) : 1.0;
        const double e = static_cast<double>(values_NK(n, k)) - weight_NK(n, k);
        error += weight * e * e;
        energy += weight * weight_NK(n, k) * weight_NK(n, k);
      }
    // gram_energy multiplies in fp32: 2^-24 a product, and as much for each of 512 additions at
    // most.
    EXPECT_NEAR(rounded.report.relative_error / (error / energy), 1.0, 513 * 0x1p-23);
    if (calibrated) {
      EXPECT_NEAR(rounded.report.loss / (error / 2048), 1.0, 513 * 0x1p-23);
    }
    EXPECT_GT(error, 0);
  }
}

// A block whose importance is all zero would come out as zeros.
TEST(BlockRounding, KeepsBlocksWhoseInputsWereNeverSeen) {
  quant::InputStats stats = imatrix_of("ffn_down_0");
  for (Index k = 0; k < 256; ++k) stats.gram_KK(k, k) = 0;
  const Rounded rounded = make_rtn({})(stats.clone(), open_exec("cpu", 1))(
      weights_of("ffn_down_0"), block_grid(ggml::Type::kQ4_K));
  const Matrix<float> values_NK = dequantize(rounded.matrix);
  double sum = 0;
  for (Index k = 0; k < 256; ++k) sum += std::abs(static_cast<double>(values_NK(0, k)));
  EXPECT_GT(sum, 1.0);
}

TEST(BlockRounding, TakesAnyImportanceWhereNoInputWasEverDifferentFromZero) {
  quant::InputStats stats = imatrix_of("ffn_down_0");
  for (Index k = 0; k < 512; ++k) stats.gram_KK(k, k) = 0;
  const Rounded rounded = make_rtn({})(stats.clone(), open_exec("cpu", 1))(
      weights_of("ffn_down_0"), block_grid(ggml::Type::kQ6_K));
  const Matrix<float> weight_NK = weights_of("ffn_down_0");
  const Matrix<float> values_NK = dequantize(rounded.matrix);
  double largest = 0;
  for (Index k = 0; k < 512; ++k)
    largest = std::max(largest, std::abs(static_cast<double>(weight_NK(0, k))));
  // Q6_K's step is a 32nd of a group's largest weight, at most.
  for (Index k = 0; k < 512; ++k) EXPECT_NEAR(values_NK(0, k), weight_NK(0, k), largest / 32);
}

TEST(BlockRounding, RefusesRowsThatAreNotWholeBlocks) {
  const quant::InputStats none;
  const SiteRounder round_one = make_rtn({})(none.clone(), open_exec("cpu", 1));
  try {
    round_one(Matrix<float>(2, 320), block_grid(ggml::Type::kQ4_K));
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kInternal);
  }
}

TEST(BlockGrid, KnowsItsShapeAndName) {
  const Grid grid = block_grid(ggml::Type::kQ6_K);
  EXPECT_EQ(grid.description(), "Q6_K blocks");
  EXPECT_TRUE(grid.divides(512));
  EXPECT_FALSE(grid.divides(320));
  EXPECT_EQ(grid.bits, 6);
  EXPECT_NE(grid, block_grid(ggml::Type::kQ3_K));
}

TEST(DivideRows, RefusesBlocks) {
  const quant::InputStats none;
  Rounded rounded = make_rtn({})(none.clone(), open_exec("cpu", 1))(weights_of("attn_q_0"),
                                                                    block_grid(ggml::Type::kQ2_K));
  try {
    divide_rows(rounded.matrix, std::vector<float>(kRows, 2.0f));
    FAIL();
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), ::testing::HasSubstr("Q2_K blocks cannot be divided"));
  }
}

}  // namespace
}  // namespace calque::quant
