// Rows of files that llama-quantize wrote (tests/fixtures/ggml/README.md).
#include <gtest/gtest.h>

#include <fstream>
#include <iterator>
#include <span>
#include <tuple>

#include "calque/core/dtype.h"
#include "ggml/ggml_samples.h"
#include "support/paths.h"

namespace calque {
namespace {

std::vector<std::byte> read_fixture(const std::string& name) {
  std::ifstream file(std::string(test::fixtures()) + "/ggml/" + name, std::ios::binary);
  EXPECT_TRUE(file) << name;
  const std::string bytes((std::istreambuf_iterator<char>(file)), {});
  std::vector<std::byte> result;
  for (const char c : bytes) result.push_back(static_cast<std::byte>(c));
  return result;
}

std::vector<float> read_floats(const std::string& name, DType dtype) {
  const std::vector<std::byte> bytes = read_fixture(name);
  std::vector<float> values(bytes.size() / size_of(dtype));
  convert_to_float(bytes.data(), dtype, values.size(), values.data());
  return values;
}

struct Written {
  std::string tensor;
  ggml::Type type;
  Index columns;
  bool weighted;
};

class GgmlWritten : public testing::TestWithParam<Written> {};

TEST_P(GgmlWritten, QuantizesToTheSameBytes) {
  const auto& [tensor, type, columns, weighted] = GetParam();
  const std::vector<float> x = read_floats(tensor + ".f16", DType::kF16);
  std::vector<float> importance;
  if (weighted) importance = read_floats(tensor + ".importance.f32", DType::kF32);
  const Index rows = static_cast<Index>(x.size()) / columns;
  ASSERT_EQ(rows, 4);
  const std::string name = tensor + "." + name_of_type(type) + (weighted ? ".weighted" : "");
  EXPECT_EQ(ggml_quantized(type, MatrixView<const float>(x.data(), rows, columns), importance),
            read_fixture(name));
}

const Written kWritten[] = {
    {"ffn_down_0", ggml::Type::kQ4_0, 512, false},
    {"ffn_down_0", ggml::Type::kQ4_1, 512, false},
    {"ffn_down_0", ggml::Type::kQ5_0, 512, false},
    {"ffn_down_0", ggml::Type::kQ5_1, 512, false},
    {"ffn_down_0", ggml::Type::kQ8_0, 512, false},
    {"ffn_down_0", ggml::Type::kQ6_K, 512, false},
    {"ffn_down_0", ggml::Type::kIQ4_NL, 512, false},
    {"ffn_down_0", ggml::Type::kIQ4_XS, 512, false},
    {"ffn_down_0", ggml::Type::kQ3_K, 512, false},
    {"ffn_down_0", ggml::Type::kQ3_K, 512, true},
    {"ffn_down_0", ggml::Type::kQ4_K, 512, false},
    {"ffn_down_0", ggml::Type::kQ4_K, 512, true},
    {"ffn_down_0", ggml::Type::kQ5_K, 512, false},
    {"attn_q_0", ggml::Type::kQ2_K, 256, false},
    {"attn_q_0", ggml::Type::kQ2_K, 256, true},
    {"ffn_down_1", ggml::Type::kQ6_K, 512, true},
};

INSTANTIATE_TEST_SUITE_P(LlamaCpp, GgmlWritten, testing::ValuesIn(kWritten), [](const auto& test) {
  const Written& written = test.param;
  return written.tensor + "_" + name_of_type(written.type) + (written.weighted ? "_weighted" : "");
});

// FP4 of the reference quantizer and its decoder: sixteen rows with an outlier, zeros and a row of
// tiny weights (tests/fixtures/ggml/README.md).
TEST(GgmlFp4, RoundsAndDecodesAsTheReference) {
  const std::vector<float> x = read_floats("weight_16x256.f32", DType::kF32);
  const MatrixView<const float> weight_NK(x.data(), 16, 256);
  for (const auto& [type, blocks, decoded] :
       {std::tuple{ggml::Type::kNVFP4, 0xe84a0590u, 0x61d1da97u},
        std::tuple{ggml::Type::kMXFP4, 0x1d8faa8eu, 0x5e303274u}}) {
    SCOPED_TRACE(name_of_type(type));
    const std::vector<std::byte> bytes = ggml_quantized(type, weight_NK, {});
    EXPECT_EQ(crc32(bytes), blocks);
    const Matrix<float> values = ggml_values(type, bytes, 16, 256);
    const auto raw =
        std::as_bytes(std::span(values.data(), static_cast<std::size_t>(values.size())));
    EXPECT_EQ(crc32({raw.begin(), raw.end()}), decoded);
  }
}

}  // namespace
}  // namespace calque
