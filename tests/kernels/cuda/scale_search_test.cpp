#include "calque/kernels/scale_search.h"

#include <gtest/gtest.h>

#include "kernels/cuda/both_devices.h"
#include "support/samples.h"

namespace calque {
namespace {

constexpr OffsetKind kKinds[] = {OffsetKind::kMiddleCode, OffsetKind::kZeroPoint,
                                 OffsetKind::kMinimum};
constexpr ScalePrecision kPrecisions[] = {ScalePrecision::kF32, ScalePrecision::kF16,
                                          ScalePrecision::kBF16, ScalePrecision::kF16AndBF16};
constexpr ScaleRule kRules[] = {ScaleRule::kMinMax, ScaleRule::kFullRange, ScaleRule::kSearch,
                                ScaleRule::kBlockSearch};

class CudaScaleSearch : public test::BothDevices {
 protected:
  void expect_same_grids(const Matrix<float>& weight, const std::vector<float>& importance,
                         Index group_size, const ScaleSearchOptions& options) const {
    const Index groups = weight.cols() / group_size;
    Matrix<float> scales(weight.rows(), groups), offsets(weight.rows(), groups);
    Matrix<float> gpu_scales(weight.rows(), groups), gpu_offsets(weight.rows(), groups);
    scale_search({weight, group_size, options, scales, offsets}, importance, cpu_);
    scale_search({weight, group_size, options, gpu_scales, gpu_offsets}, importance, gpu_);
    EXPECT_TRUE(test::same_bytes(gpu_scales, scales) && test::same_bytes(gpu_offsets, offsets))
        << "kind " << static_cast<int>(options.offset_kind) << ", precision "
        << static_cast<int>(options.precision) << ", rule " << static_cast<int>(options.rule)
        << ", " << options.bits << " bits, groups of " << group_size;
  }
};

std::vector<float> wild_importance(Index count) {
  const Matrix<float> logarithms = test::normal_matrix(1, count, 221, 2.0f);
  std::vector<float> importance;
  for (Index k = 0; k < count; ++k) importance.push_back(std::exp(logarithms(0, k)));
  importance[0] = 0.0f;
  return importance;
}

TEST_F(CudaScaleSearch, GivesTheBitsOfTheCpuForEveryOption) {
  const Matrix<float> weight = test::normal_matrix(5, 96, 222, 0.02f);
  const std::vector<float> importance = wild_importance(96);
  for (const OffsetKind kind : kKinds)
    for (const ScalePrecision precision : kPrecisions)
      for (const ScaleRule rule : kRules)
        for (const int min_zero : {0, 1})
          expect_same_grids(weight, importance, 32,
                            {.bits = 3,
                             .offset_kind = kind,
                             .precision = precision,
                             .min_zero = min_zero,
                             .rule = rule});
}

// Groups that fill no vector, no warp, exactly one, and more than one tile of shared memory.
TEST_F(CudaScaleSearch, GivesTheBitsOfTheCpuForEveryGroupSizeAndWidth) {
  for (const Index group_size : {1, 2, 15, 16, 33, 48, 128, 512, 521, 1100})
    for (const OffsetKind kind : kKinds)
      for (const int bits : {1, 2, 4, 8})
        expect_same_grids(test::normal_matrix(3, 2 * group_size, 223), {}, group_size,
                          {.bits = bits, .offset_kind = kind});
}

TEST_F(CudaScaleSearch, GivesTheBitsOfTheCpuForZerosTiesAndExtremes) {
  Matrix<float> weight(9, 40);
  const Matrix<float> normal = test::normal_matrix(9, 40, 224);
  for (Index k = 0; k < 40; ++k) {
    weight(1, k) = -0.0f;
    weight(2, k) = k % 2 == 0 ? 0.0f : -0.0f;
    weight(3, k) = k % 3 == 0 ? 0.5f : -0.5f;
    weight(4, k) = std::abs(normal(4, k)) * static_cast<float>(k % 5);
    weight(5, k) = -std::abs(normal(5, k)) * static_cast<float>(k % 5);
    weight(6, k) = 1e-30f * normal(6, k);
    weight(7, k) = 1e30f * normal(7, k);
    weight(8, k) = k == 39 ? -2.0f : 2.0f;
  }
  for (const OffsetKind kind : kKinds)
    for (const ScalePrecision precision : kPrecisions)
      for (const ScaleRule rule : kRules)
        expect_same_grids(weight, {}, 40,
                          {.offset_kind = kind, .precision = precision, .rule = rule});
}

// Scales on both sides of binary16's and bfloat16's ties and at their ends.
TEST_F(CudaScaleSearch, RoundsStoredNumbersAsTheCpuDoes) {
  Matrix<float> weight(700, 1);
  for (Index n = 0; n < 700; ++n)
    weight(n, 0) = (n % 2 == 0 ? 7.5f : -7.5f) *
                   std::ldexp(1.0f + static_cast<float>(n) * 0x1p-12f, n / 12 - 30);
  for (const OffsetKind kind : kKinds)
    for (const ScalePrecision precision : kPrecisions)
      expect_same_grids(weight, {}, 1,
                        {.offset_kind = kind, .precision = precision, .rule = ScaleRule::kMinMax});
}

}  // namespace
}  // namespace calque
