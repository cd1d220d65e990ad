#include "calque/kernels/refine_grid.h"

#include <gtest/gtest.h>

#include <random>

#include "calque/kernels/round_to_grid.h"
#include "kernels/cuda/both_devices.h"
#include "support/samples.h"

namespace calque {
namespace {

using CudaRefineGrid = test::BothDevices;

struct State {
  Matrix<float> scales, offsets;
  Matrix<std::uint8_t> codes;
  double loss = 0;
};

constexpr OffsetKind kKinds[] = {OffsetKind::kMiddleCode, OffsetKind::kZeroPoint,
                                 OffsetKind::kMinimum};

// Eighths, small integers and a scale of one: what the descent of a first pass adds up is exact in
// fp32, whatever its order.
struct ExactProblem {
  Matrix<float> weight, hessian;
  State start;

  ExactProblem(Index rows, Index columns, Index group_size)
      : weight(rows, columns),
        hessian(columns, columns),
        start{Matrix<float>(rows, columns / group_size), Matrix<float>(rows, columns / group_size),
              Matrix<std::uint8_t>(rows, columns)} {
    std::mt19937 generator(241);
    for (Index i = 0; i < weight.size(); ++i)
      weight.data()[i] = static_cast<float>(generator() % 128) / 8.0f - 8.0f;
    for (Index i = 0; i < columns; ++i)
      for (Index j = i; j < columns; ++j)
        hessian(i, j) = hessian(j, i) = static_cast<float>(i == j ? 16 : generator() % 3);
    for (Index i = 0; i < start.scales.size(); ++i) {
      start.scales.data()[i] = 1.0f;
      start.offsets.data()[i] = -8.0f;
    }
    for (Index i = 0; i < start.codes.size(); ++i)
      start.codes.data()[i] = static_cast<std::uint8_t>(generator() % 16);
  }

  State refined(Index group_size, const RefineOptions& options, const Exec& exec) const {
    State s{start.scales.clone(), start.offsets.clone(), start.codes.clone()};
    s.loss =
        refine_grid({weight, hessian, group_size, options, s.scales, s.offsets, s.codes}, exec);
    return s;
  }
};

// One unit, so every code has moved before the first scale does.
TEST_F(CudaRefineGrid, MovesTheCodesAsTheCpuDoesWhereSumsAreExact) {
  for (const OffsetKind kind : kKinds)
    for (const auto& [rows, columns, group_size] : {std::tuple<Index, Index, Index>{1, 1, 1},
                                                    {9, 40, 8},
                                                    {33, 99, 33},
                                                    {8, 128, 64},
                                                    {70, 127, 127}}) {
      const ExactProblem problem(rows, columns, group_size);
      const RefineOptions options = {.offset_kind = kind, .max_code = 15};
      const State expected = problem.refined(group_size, options, cpu_);
      const State refined = problem.refined(group_size, options, gpu_);
      EXPECT_FALSE(test::same_bytes(refined.codes, problem.start.codes) && columns > 1);
      EXPECT_TRUE(test::same_bytes(refined.codes, expected.codes))
          << "kind " << static_cast<int>(kind) << ", " << rows << " x " << columns;
    }
}

// A single group's first refit: slope and curvature are exact, so the scale is the CPU's.
TEST_F(CudaRefineGrid, RefitsTheScaleAsTheCpuDoesWhereSumsAreExact) {
  for (const ScalePrecision precision :
       {ScalePrecision::kF32, ScalePrecision::kF16, ScalePrecision::kBF16})
    for (const OffsetKind kind : {OffsetKind::kMiddleCode, OffsetKind::kZeroPoint}) {
      const ExactProblem problem(23, 64, 64);
      const RefineOptions options = {.offset_kind = kind, .precision = precision, .max_code = 15};
      const State expected = problem.refined(64, options, cpu_);
      const State refined = problem.refined(64, options, gpu_);
      EXPECT_FALSE(test::same_bytes(refined.scales, problem.start.scales));
      EXPECT_TRUE(test::same_bytes(refined.scales, expected.scales));
      EXPECT_TRUE(test::same_bytes(refined.offsets, expected.offsets));
    }
}

// Rounding differences choose between nearly equal codes and scales, so the two may end in
// different places: what they reach differs by far less than what they gain.
TEST_F(CudaRefineGrid, ReachesTheLossOfTheCpu) {
  for (const OffsetKind kind : kKinds)
    for (const Index group_size : {24, 120, 360}) {
      const Index rows = 29, columns = 360;
      const Matrix<float> weight = test::normal_matrix(rows, columns, 242);
      const Matrix<float> hessian =
          test::damped_hessian(test::correlated_inputs(500, columns, 6, 243), 0.01);
      const auto refined = [&](int passes, const Exec& exec) {
        State s{Matrix<float>(rows, columns / group_size),
                Matrix<float>(rows, columns / group_size), Matrix<std::uint8_t>(rows, columns)};
        scale_search({weight, group_size, {.bits = 3, .offset_kind = kind}, s.scales, s.offsets},
                     {}, cpu_);
        round_to_grid(weight, {s.scales, s.offsets, test::groups_of(columns, group_size), 7},
                      s.codes, cpu_);
        return refine_grid({weight,
                            hessian,
                            group_size,
                            {.offset_kind = kind, .max_code = 7, .passes = passes},
                            s.scales,
                            s.offsets,
                            s.codes},
                           exec);
      };
      const double start = refined(0, cpu_);
      EXPECT_NEAR(refined(0, gpu_), start, 10 * columns * 0x1p-24 * start);
      const double gain = start - refined(4, cpu_);
      EXPECT_NEAR(start - refined(4, gpu_), gain, 0.01 * gain)
          << "kind " << static_cast<int>(kind) << ", groups of " << group_size;
    }
}

}  // namespace
}  // namespace calque
