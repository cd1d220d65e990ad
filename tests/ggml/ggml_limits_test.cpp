// The largest weights that a type holds: up to there scales are finite and the weight comes back,
// beyond they are not, and that is found.
#include <gtest/gtest.h>

#include <cmath>

#include "calque/ggml/types.h"
#include "ggml/ggml_samples.h"

namespace calque {
namespace {

using ggml::Type;

constexpr Index kAt = 37;

std::vector<Type> block_types() {
  std::vector<Type> types;
  for (const ggml::TypeInfo& info : ggml::types())
    if (info.quantized()) types.push_back(info.type);
  return types;
}

// Small weights of both signs and one that is large.
Matrix<float> with_large(float large) {
  Matrix<float> x(1, 256);
  for (Index k = 0; k < 256; ++k) x(0, k) = k % 2 == 0 ? 0.01f : -0.01f;
  x(0, kAt) = large;
  return x;
}

class GgmlLimits : public testing::TestWithParam<Type> {};

// A step is the distance between two codes: at most 2/3 of the large weight with three levels (one
// at zero, one at each end), and the weight is within half of it. Importance makes scales that fit
// the small weights better, but the large one has nearly all of the squared error.
TEST_P(GgmlLimits, WeightsUpToTheLimitComeBack) {
  const Type type = GetParam();
  for (const float sign : {-1.0f, 1.0f})
    for (const bool weighted : {false, true}) {
      const auto limit = std::min(ggml::largest_weight(type, sign < 0), 1e30);
      const auto large = sign * static_cast<float>(0.98 * limit);
      const std::vector<float> importance = weighted ? ggml_importance() : std::vector<float>();
      const std::vector<std::byte> bytes = ggml_quantized(type, with_large(large), importance);
      EXPECT_EQ(ggml::first_fault(type, bytes, 256), "") << ggml::info_of(type).name << large;
      Matrix<float> back(1, 256);
      ggml::dequantize(type, bytes.data(), back);
      EXPECT_NEAR(back(0, kAt) / large, 1.0f, 0.34f) << ggml::info_of(type).name << " " << large;
    }
}

// A search may end with a smaller scale than the largest weight asks for, so a little more can fit:
// then it comes back, too.
TEST_P(GgmlLimits, LargerWeightsComeBackOrMakeAScaleThatIsFound) {
  const Type type = GetParam();
  for (const double factor : {1.02, 1.2, 1.45})
    for (const bool negative : {false, true}) {
      const double large = (negative ? -factor : factor) * ggml::largest_weight(type, negative);
      if (std::abs(large) > 3e38) continue;
      const std::vector<std::byte> bytes =
          ggml_quantized(type, with_large(static_cast<float>(large)), {});
      if (ggml::find_fault(type, bytes)) continue;
      Matrix<float> back(1, 256);
      ggml::dequantize(type, bytes.data(), back);
      EXPECT_NEAR(back(0, kAt) / large, 1.0, 0.34) << ggml::info_of(type).name << " " << large;
    }
}

INSTANTIATE_TEST_SUITE_P(All, GgmlLimits, testing::ValuesIn(block_types()),
                         [](const testing::TestParamInfo<Type>& tested) {
                           return std::string(ggml::info_of(tested.param).name);
                         });

}  // namespace
}  // namespace calque
