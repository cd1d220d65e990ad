#include "calque/kernels/gptq_sweep.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "calque/kernels/inverse_cholesky.h"
#include "calque/kernels/round_to_grid.h"
#include "kernels/devices.h"
#include "support/samples.h"

namespace calque {
namespace {

constexpr Index kRows = 37;
constexpr Index kColumns = 53;
constexpr int kMaxCode = 7;

// Columns in an arbitrary order of groups, as activation order makes them.
struct Case {
  Matrix<float> weight = test::normal_matrix(kRows, kColumns, 51);
  Matrix<float> hessian = test::damped_hessian(test::correlated_inputs(90, kColumns, 4, 52), 0.01);
  Matrix<float> scales = Matrix<float>(kRows, 4);
  Matrix<float> offsets = Matrix<float>(kRows, 4);
  std::vector<std::int32_t> groups;

  Case() {
    for (Index n = 0; n < kRows; ++n)
      for (Index g = 0; g < 4; ++g) {
        scales(n, g) = (n + g) % 3 == 0 ? -0.55f : 0.4f + 0.03f * static_cast<float>(g);
        offsets(n, g) = -4 * scales(n, g);
      }
    for (Index k = 0; k < kColumns; ++k) groups.push_back(static_cast<std::int32_t>(k * 5 % 4));
  }
};

struct Swept {
  Matrix<float> values;
  Matrix<std::uint8_t> codes;
  double loss;
};

// Inverse by Gauss-Jordan elimination in double.
Matrix<double> inverse_of(const Matrix<float>& m) {
  const Index size = m.rows();
  Matrix<double> a(size, 2 * size);
  for (Index i = 0; i < size; ++i) {
    for (Index j = 0; j < size; ++j) a(i, j) = m(i, j);
    a(i, size + i) = 1;
  }
  for (Index p = 0; p < size; ++p) {
    const double pivot = a(p, p);
    for (Index j = 0; j < 2 * size; ++j) a(p, j) /= pivot;
    for (Index i = 0; i < size; ++i) {
      const double factor = a(i, p);
      if (i == p) continue;
      for (Index j = 0; j < 2 * size; ++j) a(i, j) -= factor * a(p, j);
    }
  }
  Matrix<double> inverse(size, size);
  for (Index i = 0; i < size; ++i)
    for (Index j = 0; j < size; ++j) inverse(i, j) = a(i, size + j);
  return inverse;
}

// Optimal brain quantization with a fixed order, as in the paper before its Cholesky form: the
// inverse Hessian of the remaining columns is updated after every column.
Matrix<std::uint8_t> textbook_codes(const Case& c, double& smallest_margin) {
  Matrix<double> inverse = inverse_of(c.hessian);
  Matrix<double> weight(kRows, kColumns);
  for (Index i = 0; i < weight.size(); ++i) weight.data()[i] = c.weight.data()[i];
  Matrix<std::uint8_t> codes(kRows, kColumns);
  smallest_margin = 1;
  for (Index i = 0; i < kColumns; ++i) {
    for (Index n = 0; n < kRows; ++n) {
      const double scale = c.scales(n, c.groups[i]), offset = c.offsets(n, c.groups[i]);
      const double position = (weight(n, i) - offset) / scale;
      if (position > 0 && position < kMaxCode)
        smallest_margin =
            std::min(smallest_margin, std::abs(position - std::floor(position) - 0.5));
      const double code = std::clamp(std::rint(position), 0.0, double{kMaxCode});
      codes(n, i) = static_cast<std::uint8_t>(code);
      const double error = (weight(n, i) - (scale * code + offset)) / inverse(i, i);
      for (Index j = i + 1; j < kColumns; ++j) weight(n, j) -= error * inverse(i, j);
    }
    for (Index a = i + 1; a < kColumns; ++a)
      for (Index b = i + 1; b < kColumns; ++b)
        inverse(a, b) -= inverse(a, i) * inverse(i, b) / inverse(i, i);
  }
  return codes;
}

class GptqSweep : public ::testing::TestWithParam<std::string> {
 protected:
  Swept sweep(const Case& c, Index block_size, int threads = 2) const {
    // The factor's own rounding is none of this operation's business: every device gets the same.
    const auto factor = inverse_cholesky(c.hessian, open_exec("cpu", 2));
    Swept swept{c.weight.clone(), Matrix<std::uint8_t>(c.weight.rows(), c.weight.cols()), 0};
    swept.loss = gptq_sweep({.weight_NK = swept.values,
                             .inverse_factor_KK = *factor,
                             .grid = {c.scales, c.offsets, c.groups, kMaxCode},
                             .block_size = block_size,
                             .codes_NK = swept.codes},
                            open_exec(GetParam(), threads));
    return swept;
  }
};

// No position of the reference comes closer to a rounding boundary than 1e-5 steps, some 80 times
// fp32's resolution at positions of up to 8, so both must choose the same codes.
TEST_P(GptqSweep, GivesTheCodesOfTheTextbookAlgorithmInDouble) {
  const Case c;
  double margin = 0;
  const Matrix<std::uint8_t> expected = textbook_codes(c, margin);
  ASSERT_GT(margin, 1e-5);
  for (const Index block : {1, 7, 53, 128})
    EXPECT_TRUE(test::same_bytes(sweep(c, block).codes, expected)) << "block " << block;
}

TEST_P(GptqSweep, LeavesTheValuesOfItsCodes) {
  const Case c;
  const Swept swept = sweep(c, 16);
  for (Index n = 0; n < kRows; ++n)
    for (Index k = 0; k < kColumns; ++k)
      EXPECT_EQ(swept.values(n, k),
                c.scales(n, c.groups[k]) * swept.codes(n, k) + c.offsets(n, c.groups[k]));
}

// sum e^2 telescopes to the loss in exact arithmetic; in fp32 each of the K steps adds a relative
// error of a few u to the errors that make it up: K * 8 u = 3e-5.
TEST_P(GptqSweep, ReturnsTheLoss) {
  const Case c;
  const Swept swept = sweep(c, 16);
  Matrix<float> error = swept.values.clone();
  for (Index i = 0; i < error.size(); ++i) error.data()[i] -= c.weight.data()[i];
  const double loss = test::quadratic_form(error, c.hessian);
  EXPECT_NEAR(swept.loss, loss, 3e-5 * loss);
}

TEST_P(GptqSweep, BeatsRoundingToNearest) {
  const Case c;
  Matrix<std::uint8_t> codes(kRows, kColumns);
  round_to_grid(c.weight, {c.scales, c.offsets, c.groups, kMaxCode}, codes, open_exec("cpu", 1));
  Matrix<float> error(kRows, kColumns);
  for (Index n = 0; n < kRows; ++n)
    for (Index k = 0; k < kColumns; ++k)
      error(n, k) =
          c.scales(n, c.groups[k]) * codes(n, k) + c.offsets(n, c.groups[k]) - c.weight(n, k);
  EXPECT_LT(sweep(c, 16).loss, 0.8 * test::quadratic_form(error, c.hessian));
}

TEST_P(GptqSweep, DoesNotDependOnTheNumberOfThreads) {
  Case c;
  c.weight = test::normal_matrix(203, kColumns, 53);
  c.scales = Matrix<float>(203, 4);
  c.offsets = Matrix<float>(203, 4);
  for (Index i = 0; i < c.scales.size(); ++i) c.scales.data()[i] = 0.5f;
  for (Index i = 0; i < c.scales.size(); ++i) c.offsets.data()[i] = -2.0f;
  const Swept one = sweep(c, 16, 1), three = sweep(c, 16, 3);
  EXPECT_TRUE(test::same_bytes(one.codes, three.codes));
  EXPECT_TRUE(test::same_bytes(one.values, three.values));
  EXPECT_EQ(one.loss, three.loss);
}

TEST_P(GptqSweep, GivesCodeZeroForAZeroScale) {
  Case c;
  for (Index n = 0; n < kRows; ++n) c.scales(n, 1) = c.offsets(n, 1) = 0.0f;
  const Swept swept = sweep(c, 16);
  for (Index k = 0; k < kColumns; ++k)
    if (c.groups[k] == 1) {
      EXPECT_EQ(swept.codes(5, k), 0);
    }
}

// By the definition: with H = I every weight takes the nearest level, also of a negative scale.
TEST_P(GptqSweep, TakesTheNearestLevelOfATable) {
  const std::vector<float> table = {-5, -1, 0, 7};
  Case c;
  for (Index i = 0; i < kColumns; ++i)
    for (Index j = 0; j < kColumns; ++j) c.hessian(i, j) = i == j ? 1.0f : 0.0f;
  const auto factor = inverse_cholesky(c.hessian, open_exec("cpu", 2));
  Matrix<float> values = c.weight.clone();
  Matrix<std::uint8_t> codes(kRows, kColumns);
  gptq_sweep({.weight_NK = values,
              .inverse_factor_KK = *factor,
              .grid = {c.scales, c.offsets, c.groups, 3, table},
              .block_size = 16,
              .codes_NK = codes},
             open_exec(GetParam(), 2));
  for (Index n = 0; n < kRows; ++n)
    for (Index k = 0; k < kColumns; ++k) {
      const float scale = c.scales(n, c.groups[k]), offset = c.offsets(n, c.groups[k]);
      float nearest = 1e30f;
      for (const float level : table)
        nearest = std::min(nearest, std::abs(c.weight(n, k) - (scale * level + offset)));
      EXPECT_EQ(values(n, k), scale * table[codes(n, k)] + offset);
      EXPECT_LE(std::abs(c.weight(n, k) - values(n, k)), nearest + 1e-6f);
    }
}

CALQUE_ON_EVERY_DEVICE(GptqSweep);

}  // namespace
}  // namespace calque
