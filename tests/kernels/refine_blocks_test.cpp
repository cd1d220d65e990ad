#include "calque/kernels/refine_blocks.h"

#include <gtest/gtest.h>

#include <map>
#include <numeric>

#include "calque/core/dtype.h"
#include "ggml/ggml_samples.h"
#include "support/samples.h"

namespace calque {
namespace {

constexpr Index kRows = 70;  // a whole panel and a part of one

// Made once for all tests.
const Matrix<float>& hessian_of(Index columns) {
  static std::map<Index, Matrix<float>> made;
  if (const auto found = made.find(columns); found != made.end()) return found->second;
  return made[columns] =
             test::damped_hessian(test::correlated_inputs(columns + 100, columns, 6, 62), 0.01);
}

class RefineBlocks : public ::testing::TestWithParam<std::tuple<ggml::Type, Index>> {
 protected:
  ggml::Type type_ = std::get<0>(GetParam());
  Index columns_ = std::get<1>(GetParam());
  const ggml::Structure& structure_ = *ggml::info_of(type_).structure;
  Matrix<float> weight_ = test::normal_matrix(kRows, columns_, 61);
  const Matrix<float>& hessian_ = hessian_of(columns_);
  const Exec exec_ = open_exec("cpu", 2);

  ggml::Fields start() const {
    return ggml_fields(type_, ggml_quantized(type_, weight_, {}), kRows, columns_, exec_);
  }
  std::vector<double> refine(MatrixView<const float> hessian, ggml::Fields& fields, int passes,
                             int threads = 2) const {
    std::vector<double> losses(kRows);
    refine_blocks({weight_, hessian, structure_, passes, fields, losses},
                  open_exec("cpu", threads));
    return losses;
  }
  std::vector<std::byte> bytes_of(const ggml::Fields& fields) const {
    std::vector<std::byte> bytes(kRows * ggml::row_bytes(type_, columns_));
    store_ggml_fields(type_, fields, bytes, exec_);
    return bytes;
  }
  // By the definition in double, of what the stored bytes stand for.
  std::vector<double> losses_of(const Matrix<float>& hessian, const ggml::Fields& fields) const {
    const Matrix<float> values = ggml_values(type_, bytes_of(fields), kRows, columns_);
    std::vector<double> losses;
    Matrix<float> error(1, columns_);
    for (Index n = 0; n < kRows; ++n) {
      for (Index k = 0; k < columns_; ++k) error(0, k) = weight_(n, k) - values(n, k);
      losses.push_back(test::quadratic_form(error, hessian));
    }
    return losses;
  }
};

double total(const std::vector<double>& losses) {
  return std::accumulate(losses.begin(), losses.end(), 0.0);
}

// The residual behind the losses that come back is kept up in fp32 through some K updates a pass.
TEST_P(RefineBlocks, LowersEveryRowsLossWithEveryPassAndReturnsIt) {
  ggml::Fields fields = start();
  std::vector<double> before = losses_of(hessian_, fields);
  const std::vector<double> first = before;
  for (int pass = 0; pass < 3; ++pass) {
    const std::vector<double> returned = refine(hessian_, fields, 1);
    const std::vector<double> now = losses_of(hessian_, fields);
    for (std::size_t n = 0; n < now.size(); ++n) {
      const double tolerance = 10 * static_cast<double>(columns_) * 0x1p-24 * first[n];
      EXPECT_NEAR(returned[n], now[n], tolerance) << "row " << n;
      EXPECT_LE(now[n], before[n] + tolerance) << "row " << n << ", pass " << pass;
    }
    before = now;
  }
  EXPECT_LT(total(before), 0.6 * total(first));
}

TEST_P(RefineBlocks, StaysWhereItCanBeStored) {
  ggml::Fields fields = start();
  const ggml::Fields old = fields.clone();
  refine(hessian_, fields, 3);
  for (Index i = 0; i < fields.scale_codes_NG.size(); ++i) {
    EXPECT_GE(fields.scale_codes_NG.data()[i], structure_.lowest_scale);
    EXPECT_LE(fields.scale_codes_NG.data()[i], structure_.highest_scale);
    EXPECT_GE(fields.minimum_codes_NG.data()[i], 0);
    EXPECT_LE(fields.minimum_codes_NG.data()[i], structure_.highest_minimum);
  }
  for (Index i = 0; i < fields.steps_NS.size(); ++i) {
    EXPECT_EQ(fields.steps_NS.data()[i], rounded_to_half(fields.steps_NS.data()[i]));
    EXPECT_EQ(fields.minimum_steps_NS.data()[i],
              rounded_to_half(fields.minimum_steps_NS.data()[i]));
  }
  for (Index i = 0; i < fields.codes_NK.size(); ++i)
    EXPECT_LT(fields.codes_NK.data()[i], structure_.levels.size());
  EXPECT_FALSE(test::same_bytes(fields.steps_NS, old.steps_NS));
  EXPECT_EQ(test::same_bytes(fields.scale_codes_NG, old.scale_codes_NG),
            structure_.lowest_scale == structure_.highest_scale);
}

// An empty Hessian is the identity: the same result but for sums with zeros.
TEST_P(RefineBlocks, TakesNoHessianForTheIdentity) {
  Matrix<float> identity(columns_, columns_);
  for (Index k = 0; k < columns_; ++k) identity(k, k) = 1.0f;
  ggml::Fields none = start(), explicitly = start();
  const std::vector<double> before = losses_of(identity, none);
  const std::vector<double> losses = refine({}, none, 2);
  refine(identity, explicitly, 2);
  EXPECT_EQ(bytes_of(none), bytes_of(explicitly));
  const std::vector<double> now = losses_of(identity, none);
  for (std::size_t n = 0; n < now.size(); ++n) {
    EXPECT_NEAR(losses[n], now[n], 10 * static_cast<double>(columns_) * 0x1p-24 * before[n]);
    EXPECT_LE(now[n], before[n] * (1 + 1e-6)) << "row " << n;
  }
  EXPECT_LT(total(now), total(before));
}

TEST_P(RefineBlocks, DoesNotDependOnTheNumberOfThreads) {
  ggml::Fields one = start(), three = start();
  EXPECT_EQ(refine(hessian_, one, 2, 1), refine(hessian_, three, 2, 3));
  EXPECT_EQ(bytes_of(one), bytes_of(three));
}

INSTANTIATE_TEST_SUITE_P(
    Types, RefineBlocks,
    ::testing::Combine(::testing::Values(ggml::Type::kQ2_K, ggml::Type::kQ3_K, ggml::Type::kQ4_K,
                                         ggml::Type::kQ5_K, ggml::Type::kQ6_K, ggml::Type::kIQ4_NL,
                                         ggml::Type::kIQ4_XS),
                       ::testing::Values(Index{256}, Index{768})),
    [](const auto& tested) {
      return name_of_type(std::get<0>(tested.param)) + "_" +
             std::to_string(std::get<1>(tested.param));
    });

// By hand: nothing is coupled, weights of 0.99 times the levels keep the levels' own codes at step
// 1 (half a gap is 4.5 at least, the weights moved by 1.27 at most), and the least-squares step is
// 0.99.
TEST(RefineOneBlock, FindsTheLeastSquaresStep) {
  const ggml::Structure& structure = *ggml::info_of(ggml::Type::kIQ4_NL).structure;
  ggml::Fields fields = {Matrix<std::uint8_t>(1, 32), Matrix<std::int8_t>(1, 1),
                         Matrix<std::int8_t>(1, 1), Matrix<float>(1, 1), Matrix<float>(1, 1)};
  Matrix<float> weight(1, 32);
  for (Index k = 0; k < 32; ++k) {
    fields.codes_NK(0, k) = static_cast<std::uint8_t>(k % 16);
    weight(0, k) = 0.99f * structure.levels[static_cast<std::size_t>(k % 16)];
  }
  fields.scale_codes_NG(0, 0) = 1;
  fields.steps_NS(0, 0) = 1.0f;
  std::vector<double> losses(1);
  refine_blocks({weight, {}, structure, 1, fields, losses}, open_exec("cpu", 1));
  EXPECT_EQ(fields.steps_NS(0, 0), rounded_to_half(0.99f));
  for (Index k = 0; k < 32; ++k) EXPECT_EQ(fields.codes_NK(0, k), k % 16);
}

}  // namespace
}  // namespace calque
