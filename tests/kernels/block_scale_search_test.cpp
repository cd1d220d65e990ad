#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "calque/core/dtype.h"
#include "calque/core/error.h"
#include "calque/kernels/round_to_grid.h"
#include "calque/kernels/scale_search.h"
#include "support/samples.h"

namespace calque {
namespace {

constexpr OffsetKind kKinds[] = {OffsetKind::kMiddleCode, OffsetKind::kZeroPoint,
                                 OffsetKind::kMinimum};

struct Grids {
  Matrix<float> scales, offsets;
};

struct Problem {
  Index rows, columns, group;
  Matrix<float> weight, hessian;
};

Problem problem(Index rows, Index columns, Index group) {
  return {rows, columns, group, test::normal_matrix(rows, columns, 201),
          test::damped_hessian(test::correlated_inputs(300, columns, 4, 202), 0.01)};
}

Grids searched(const Problem& p, const ScaleSearchOptions& options, int threads = 2) {
  const Index groups = p.columns / p.group;
  Grids found{Matrix<float>(p.rows, groups), Matrix<float>(p.rows, groups)};
  const Exec exec = open_exec("cpu", threads);
  if (options.rule == ScaleRule::kBlockSearch)
    block_scale_search({p.weight, p.group, options, found.scales, found.offsets}, p.hessian, exec);
  else
    scale_search({p.weight, p.group, options, found.scales, found.offsets}, {}, exec);
  return found;
}

struct Loss {
  double value = 0;
  double absolute = 0;  // sum |e_i H_ij e_j|: what fp32 sums are accurate relative to
};

// e H_gg e^T of one group by the definition, in double.
Loss loss_of(const Problem& p, Index n, Index g, float scale, float offset, int bits) {
  std::vector<double> error;
  for (Index k = g * p.group; k < (g + 1) * p.group; ++k) {
    const float position = (p.weight(n, k) - offset) / scale;
    const float code = std::clamp(std::rint(position), 0.0f, static_cast<float>((1 << bits) - 1));
    error.push_back(p.weight(n, k) - (scale * code + offset));
  }
  Loss loss;
  for (Index i = 0; i < p.group; ++i)
    for (Index j = 0; j < p.group; ++j) {
      const double term = error[static_cast<std::size_t>(i)] * error[static_cast<std::size_t>(j)] *
                          p.hessian(g * p.group + i, g * p.group + j);
      loss.value += term;
      loss.absolute += std::abs(term);
    }
  return loss;
}

// Scales and offsets of the clipped ranges, by their definition.
std::vector<std::pair<float, float>> clipped(const Problem& p, Index n, Index g,
                                             const ScaleSearchOptions& options) {
  const float* begin = p.weight.row(n) + g * p.group;
  const auto [low, high] = std::minmax_element(begin, begin + p.group);
  const float codes = static_cast<float>((1 << options.bits) - 1);
  const float middle = static_cast<float>(1 << (options.bits - 1));
  std::vector<std::pair<float, float>> grids;
  for (int i = 0; i < 10; ++i) {
    const float shrink = 1.0f - static_cast<float>(i) / 20.0f;
    const float extreme = shrink * (*high > -*low ? *high : *low);
    const float bottom = std::min(shrink * *low, 0.0f);
    const float range = std::max(shrink * *high, 0.0f) / codes - bottom / codes;
    if (options.offset_kind == OffsetKind::kMiddleCode) {
      for (const float scale : {2.0f * (std::abs(extreme) / codes), -extreme / middle})
        grids.emplace_back(rounded_to_half(scale), -rounded_to_half(scale) * middle);
      continue;
    }
    const float scale = rounded_to_half(range);
    if (options.offset_kind == OffsetKind::kZeroPoint)
      grids.emplace_back(scale, -scale * std::rint(std::clamp(-bottom / scale, 0.0f, codes)));
    else
      grids.emplace_back(scale, rounded_to_half(bottom));
  }
  return grids;
}

// A sum of g products of sums of g products, in fp32, is off by at most 2 g 2^-24 of its absolute
// terms; so are both of two losses that are compared.
TEST(BlockScaleSearch, IsNoWorseThanAnyClippedRange) {
  for (const auto& [rows, columns, group] :
       {std::tuple<Index, Index, Index>{37, 120, 40}, {33, 70, 7}, {5, 72, 72}, {3, 6, 1}}) {
    const Problem p = problem(rows, columns, group);
    for (const OffsetKind kind : kKinds)
      for (const int bits : {2, 3, 4, 8}) {
        const ScaleSearchOptions options = {
            .bits = bits, .offset_kind = kind, .rule = ScaleRule::kBlockSearch};
        const Grids found = searched(p, options);
        for (Index n = 0; n < rows; ++n)
          for (Index g = 0; g < columns / group; ++g) {
            const Loss chosen = loss_of(p, n, g, found.scales(n, g), found.offsets(n, g), bits);
            for (const auto& [scale, offset] : clipped(p, n, g, options)) {
              const Loss other = loss_of(p, n, g, scale, offset, bits);
              EXPECT_LE(chosen.value, other.value + 4 * static_cast<double>(group) * 0x1p-24 *
                                                        (chosen.absolute + other.absolute))
                  << "kind " << static_cast<int>(kind) << ", " << bits << " bits, group " << group;
            }
          }
      }
  }
}

TEST(BlockScaleSearch, GainsFromTheCorrelationOfItsInputs) {
  const Problem p = problem(40, 128, 64);
  for (const OffsetKind kind : kKinds) {
    double by_block = 0, by_square = 0;
    const Grids block = searched(p, {.offset_kind = kind, .rule = ScaleRule::kBlockSearch});
    const Grids square = searched(p, {.offset_kind = kind, .rule = ScaleRule::kSearch});
    for (Index n = 0; n < p.rows; ++n)
      for (Index g = 0; g < 2; ++g) {
        by_block += loss_of(p, n, g, block.scales(n, g), block.offsets(n, g), 4).value;
        by_square += loss_of(p, n, g, square.scales(n, g), square.offsets(n, g), 4).value;
      }
    EXPECT_LT(by_block, 0.8 * by_square);
  }
}

TEST(BlockScaleSearch, StoresWhatThePrecisionHolds) {
  const Problem p = problem(19, 96, 32);
  for (const OffsetKind kind : kKinds) {
    const Grids found = searched(p, {.offset_kind = kind,
                                     .precision = ScalePrecision::kF16AndBF16,
                                     .min_zero = 1,
                                     .rule = ScaleRule::kBlockSearch});
    for (Index i = 0; i < found.scales.size(); ++i) {
      const float scale = found.scales.data()[i];
      const float offset = found.offsets.data()[i];
      EXPECT_EQ(scale, rounded_to_half(scale));
      EXPECT_EQ(scale, rounded_to_bfloat16(scale));
      if (kind == OffsetKind::kMinimum) {
        EXPECT_EQ(offset, rounded_to_half(rounded_to_bfloat16(offset)));
        continue;
      }
      const float zero = -offset / scale;
      EXPECT_EQ(zero, std::rint(zero));
      EXPECT_GE(zero, 1.0f);
      EXPECT_LE(zero, 15.0f);
    }
  }
}

TEST(BlockScaleSearch, DecodesGroupsOfZerosToZeroAndSurvivesAHessianOfZeros) {
  Problem p = problem(3, 24, 8);
  for (Index k = 8; k < 16; ++k) p.weight(1, k) = 0.0f;
  for (Index i = 0; i < 24; ++i)
    for (Index j = 0; j < 24; ++j)
      if (i >= 16 || j >= 16) p.hessian(i, j) = 0.0f;
  for (const OffsetKind kind : kKinds) {
    const Grids found = searched(p, {.offset_kind = kind, .rule = ScaleRule::kBlockSearch});
    const float position = -found.offsets(1, 1) / found.scales(1, 1);
    EXPECT_EQ(found.scales(1, 1) * std::rint(position) + found.offsets(1, 1), 0.0f);
    for (Index n = 0; n < 3; ++n) {
      const Grids plain = searched(p, {.offset_kind = kind, .rule = ScaleRule::kMinMax});
      EXPECT_EQ(found.scales(n, 2), plain.scales(n, 2)) << "nothing is better than min-max";
      EXPECT_EQ(found.offsets(n, 2), plain.offsets(n, 2));
    }
  }
}

TEST(BlockScaleSearch, DoesNotDependOnTheNumberOfThreads) {
  const Problem p = problem(75, 96, 32);
  for (const OffsetKind kind : kKinds) {
    const ScaleSearchOptions options = {.offset_kind = kind, .rule = ScaleRule::kBlockSearch};
    const Grids one = searched(p, options, 1);
    const Grids three = searched(p, options, 3);
    EXPECT_TRUE(test::same_bytes(one.scales, three.scales));
    EXPECT_TRUE(test::same_bytes(one.offsets, three.offsets));
  }
}

TEST(BlockScaleSearch, RefusesAHessianOfAnotherSize) {
  Matrix<float> weight(2, 10), hessian(9, 9), scales(2, 2), offsets(2, 2);
  EXPECT_THROW(block_scale_search({weight, 5, {.rule = ScaleRule::kBlockSearch}, scales, offsets},
                                  hessian, open_exec("cpu", 1)),
               Error);
}

}  // namespace
}  // namespace calque
