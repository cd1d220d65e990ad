#include "calque/kernels/refine_grid.h"

#include <gtest/gtest.h>

#include "calque/core/dtype.h"
#include "calque/kernels/round_to_grid.h"
#include "calque/kernels/scale_search.h"
#include "kernels/devices.h"
#include "support/samples.h"

namespace calque {
namespace {

constexpr Index kRows = 70;

struct State {
  Matrix<float> scales, offsets;
  Matrix<std::uint8_t> codes;
};

State rounded(const Matrix<float>& weight, Index group, OffsetKind kind) {
  const Exec exec = open_exec("cpu", 2);
  const Index groups = weight.cols() / group;
  State s{Matrix<float>(weight.rows(), groups), Matrix<float>(weight.rows(), groups),
          Matrix<std::uint8_t>(weight.rows(), weight.cols())};
  scale_search({weight, group, {.bits = 3, .offset_kind = kind}, s.scales, s.offsets}, {}, exec);
  round_to_grid(weight, {s.scales, s.offsets, test::groups_of(weight.cols(), group), 7}, s.codes,
                exec);
  return s;
}

double loss_of(const Matrix<float>& weight, const Matrix<float>& hessian, const State& s) {
  const Index group = weight.cols() / s.scales.cols();
  Matrix<float> error(weight.rows(), weight.cols());
  for (Index n = 0; n < weight.rows(); ++n)
    for (Index k = 0; k < weight.cols(); ++k)
      error(n, k) =
          weight(n, k) - (s.scales(n, k / group) * s.codes(n, k) + s.offsets(n, k / group));
  return test::quadratic_form(error, hessian);
}

class RefineGrid : public ::testing::TestWithParam<std::tuple<std::string, OffsetKind, Index>> {
 protected:
  static constexpr Index kColumns = 288;
  std::string device_ = std::get<0>(GetParam());
  OffsetKind kind_ = std::get<1>(GetParam());
  Index group_ = std::get<2>(GetParam());
  Exec exec_ = open_exec(device_, 2);
  Matrix<float> weight_ = test::normal_matrix(kRows, kColumns, 61);
  Matrix<float> hessian_ =
      test::damped_hessian(test::correlated_inputs(400, kColumns, 6, 62), 0.01);
  RefineOptions options_ = {.offset_kind = kind_, .max_code = 7, .passes = 1};
};

// The loss that comes back is kept up in fp32 through some 10 K updates of R.
TEST_P(RefineGrid, LowersTheLossWithEveryPassAndReturnsIt) {
  State s = rounded(weight_, group_, kind_);
  double before = loss_of(weight_, hessian_, s);
  const double start = before;
  for (int pass = 0; pass < 4; ++pass) {
    const double returned =
        refine_grid({weight_, hessian_, group_, options_, s.scales, s.offsets, s.codes}, exec_);
    const double now = loss_of(weight_, hessian_, s);
    EXPECT_NEAR(returned, now, 10 * kColumns * 0x1p-24 * start);
    EXPECT_LE(now, before * (1 + 1e-6)) << "pass " << pass;
    before = now;
  }
  EXPECT_LT(before, 0.7 * start);
}

TEST_P(RefineGrid, KeepsTheGridAsItIsStored) {
  State s = rounded(weight_, group_, kind_);
  const State old = rounded(weight_, group_, kind_);
  refine_grid({weight_, hessian_, group_, options_, s.scales, s.offsets, s.codes}, exec_);
  bool moved = false;
  for (Index i = 0; i < s.scales.size(); ++i) {
    const float scale = s.scales.data()[i], offset = s.offsets.data()[i];
    moved |= scale != old.scales.data()[i];
    EXPECT_EQ(scale, rounded_to_half(scale));
    EXPECT_GT(scale * old.scales.data()[i], 0.0f);
    if (kind_ == OffsetKind::kMinimum) {
      EXPECT_EQ(offset, rounded_to_half(offset));
    } else {
      EXPECT_EQ(-offset / scale, -old.offsets.data()[i] / old.scales.data()[i]) << "zero point";
    }
  }
  EXPECT_TRUE(moved);
  for (Index i = 0; i < s.codes.size(); ++i) EXPECT_LE(s.codes.data()[i], 7);
}

TEST_P(RefineGrid, DoesNotDependOnTheNumberOfThreads) {
  State one = rounded(weight_, group_, kind_);
  State three = rounded(weight_, group_, kind_);
  const double a =
      refine_grid({weight_, hessian_, group_, options_, one.scales, one.offsets, one.codes},
                  open_exec(device_, 1));
  const double b =
      refine_grid({weight_, hessian_, group_, options_, three.scales, three.offsets, three.codes},
                  open_exec(device_, 3));
  EXPECT_EQ(a, b);
  EXPECT_TRUE(test::same_bytes(one.codes, three.codes));
  EXPECT_TRUE(test::same_bytes(one.scales, three.scales));
  EXPECT_TRUE(test::same_bytes(one.offsets, three.offsets));
}

INSTANTIATE_TEST_SUITE_P(
    Grids, RefineGrid,
    ::testing::Combine(::testing::ValuesIn(available_devices()),
                       ::testing::Values(OffsetKind::kMiddleCode, OffsetKind::kZeroPoint,
                                         OffsetKind::kMinimum),
                       ::testing::Values(Index{32}, Index{48}, Index{144}, Index{288})));

class RefineGridByHand : public ::testing::TestWithParam<std::string> {};

// By hand: H = I couples nothing, so codes stay nearest and the scale becomes the least-squares
// one: weights 0.9 q with q = -4..3 and scale 1 give scale 0.9.
TEST_P(RefineGridByHand, FindsTheLeastSquaresScale) {
  Matrix<float> weight(1, 8), scales(1, 1), offsets(1, 1), hessian(8, 8);
  Matrix<std::uint8_t> codes(1, 8);
  for (Index k = 0; k < 8; ++k) {
    weight(0, k) = 0.9f * static_cast<float>(k - 4);
    codes(0, k) = static_cast<std::uint8_t>(k);
    hessian(k, k) = 1.0f;
  }
  scales(0, 0) = 1.0f;
  offsets(0, 0) = -4.0f;
  refine_grid({weight,
               hessian,
               8,
               {.precision = ScalePrecision::kF32, .max_code = 7},
               scales,
               offsets,
               codes},
              open_exec(GetParam(), 1));
  EXPECT_NEAR(scales(0, 0), 0.9f, 4 * 0x1p-24);
  EXPECT_EQ(offsets(0, 0), -4 * scales(0, 0));
}

CALQUE_ON_EVERY_DEVICE(RefineGridByHand);

}  // namespace
}  // namespace calque
