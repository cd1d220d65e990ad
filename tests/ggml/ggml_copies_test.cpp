// Tests the codecs of every instruction set that this machine has.
#include <gtest/gtest.h>

#include <cstring>

#include "ggml/ggml_samples.h"
#include "ggml/types/codec.h"

namespace calque {
namespace {

class GgmlCopies : public testing::TestWithParam<ggml::Copy> {
 protected:
  static const ggml::Codec& codec(ggml::Type type) { return *GetParam().find_codec(type); }
};

std::vector<std::byte> quantized_by(const ggml::Codec& codec, MatrixView<const float> x,
                                    const std::vector<float>& importance) {
  const std::size_t row_bytes = ggml::row_bytes(codec.type, x.cols());
  std::vector<std::byte> bytes(static_cast<std::size_t>(x.rows()) * row_bytes);
  for (Index n = 0; n < x.rows(); ++n)
    codec.quantize({x.row(n), importance.empty() ? nullptr : importance.data(), x.cols()},
                   bytes.data() + static_cast<std::size_t>(n) * row_bytes);
  return bytes;
}

TEST_P(GgmlCopies, BytesEqualTheReference) {
  for (const auto& [type, input, plain, weighted] : kGoldenCrcs) {
    const Matrix<float> x = ggml_input(input);
    EXPECT_EQ(crc32(quantized_by(codec(type), x, {})), plain)
        << name_of_type(type) << ", input " << static_cast<int>(input);
    EXPECT_EQ(crc32(quantized_by(codec(type), x, ggml_importance_of(input))), weighted)
        << name_of_type(type) << " weighted, input " << static_cast<int>(input);
  }
}

// 41 super-blocks: whole strips of any register width and a part of one.
TEST_P(GgmlCopies, LongRowsEqualTheFirst) {
  constexpr int kColumns = 41 * 256;
  const std::vector<float> noise = ggml_noise(kColumns);
  const MatrixView<const float> x(noise.data(), 1, kColumns);
  const ggml::Copy& first = ggml::runnable_copies().front();
  for (const GoldenError& golden : kGoldenErrors)
    for (const auto& importance : {std::vector<float>{}, ggml_importance(kColumns)})
      EXPECT_EQ(quantized_by(codec(golden.type), x, importance),
                quantized_by(*first.find_codec(golden.type), x, importance))
          << name_of_type(golden.type) << (importance.empty() ? "" : " weighted");
}

TEST_P(GgmlCopies, ValuesEqualTheFirst) {
  const ggml::Copy& first = ggml::runnable_copies().front();
  for (const GoldenError& golden : kGoldenErrors) {
    const auto bytes = quantized_by(codec(golden.type), ggml_input(GgmlInput::kNoise), {});
    std::vector<float> values(512), expected(512);
    codec(golden.type).dequantize(bytes.data(), 512, values.data());
    first.find_codec(golden.type)->dequantize(bytes.data(), 512, expected.data());
    EXPECT_EQ(std::memcmp(values.data(), expected.data(), 512 * sizeof(float)), 0)
        << name_of_type(golden.type);
    EXPECT_NE(values, std::vector<float>(512)) << name_of_type(golden.type);
  }
}

INSTANTIATE_TEST_SUITE_P(Runnable, GgmlCopies, testing::ValuesIn(ggml::runnable_copies()),
                         [](const auto& test) { return std::string(test.param.instruction_set); });

}  // namespace
}  // namespace calque
