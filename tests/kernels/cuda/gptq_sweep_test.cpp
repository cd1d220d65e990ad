#include "calque/kernels/gptq_sweep.h"

#include <gtest/gtest.h>

#include <random>

#include "kernels/cuda/both_devices.h"
#include "support/samples.h"

namespace calque {
namespace {

struct Swept {
  Matrix<float> values;
  Matrix<std::uint8_t> codes;
  double loss;
};

struct Problem {
  Matrix<float> weight, factor, scales, offsets;
  std::vector<std::int32_t> groups;
  int max_code = 15;
  std::vector<float> table = {};
};

// An upper triangular factor whose rows grow no error, groups in any order, scales of both signs.
Problem random_problem(Index rows, Index columns) {
  Problem p{test::normal_matrix(rows, columns, 231),
            test::normal_matrix(columns, columns, 232, 0.1f),
            test::normal_matrix(rows, 5, 233, 0.1f),
            test::normal_matrix(rows, 5, 234, 0.5f),
            {}};
  for (Index i = 0; i < columns; ++i) p.factor(i, i) = 1.0f + std::abs(p.factor(i, i));
  p.scales(0, 3) = 0.0f;
  for (Index k = 0; k < columns; ++k) p.groups.push_back(static_cast<std::int32_t>(k * 7 % 5));
  return p;
}

// Eighths and small integers: every sum that occurs is exact in fp32, whatever its order.
Problem exact_problem(Index rows, Index columns) {
  std::mt19937 generator(235);
  Problem p{Matrix<float>(rows, columns), Matrix<float>(columns, columns),   Matrix<float>(rows, 1),
            Matrix<float>(rows, 1),       test::groups_of(columns, columns), 255};
  for (Index i = 0; i < p.weight.size(); ++i)
    p.weight.data()[i] = static_cast<float>(generator() % 1024) / 8.0f;
  for (Index i = 0; i < columns; ++i)
    for (Index j = i; j < columns; ++j)
      p.factor(i, j) = i == j ? 1.0f : static_cast<float>(generator() % 16 == 0);
  for (Index n = 0; n < rows; ++n) {
    p.scales(n, 0) = 1.0f;
    p.offsets(n, 0) = -64.0f;
  }
  return p;
}

Swept sweep(const Problem& p, Index block_size, const Exec& exec) {
  Swept swept{p.weight.clone(), Matrix<std::uint8_t>(p.weight.rows(), p.weight.cols()), 0};
  swept.loss = gptq_sweep({.weight_NK = swept.values,
                           .inverse_factor_KK = p.factor,
                           .grid = {p.scales, p.offsets, p.groups, p.max_code, p.table},
                           .block_size = block_size,
                           .codes_NK = swept.codes},
                          exec);
  return swept;
}

class CudaGptqSweep : public test::BothDevices {
 protected:
  void expect_same(const Problem& p, Index block_size) const {
    const Swept expected = sweep(p, block_size, cpu_), swept = sweep(p, block_size, gpu_);
    const auto what = ::testing::Message() << p.weight.rows() << " x " << p.weight.cols()
                                           << " in blocks of " << block_size;
    EXPECT_TRUE(test::same_bytes(swept.codes, expected.codes)) << what;
    EXPECT_TRUE(test::same_bytes(swept.values, expected.values)) << what;
    // The same squares, summed in fp32 over at most 128 columns or 16 rows.
    EXPECT_NEAR(swept.loss, expected.loss, 144 * 0x1p-24 * expected.loss) << what;
  }
};

TEST_F(CudaGptqSweep, GivesTheBitsOfTheCpuInsideABlock) {
  for (const auto& [rows, columns] :
       {std::pair<Index, Index>{1, 1}, {8, 31}, {9, 32}, {37, 33}, {13, 100}, {70, 127}, {17, 128}})
    expect_same(random_problem(rows, columns), 128);
}

TEST_F(CudaGptqSweep, GivesTheBitsOfTheCpuForEightBits) {
  Problem p = random_problem(21, 90);
  p.max_code = 255;
  for (Index i = 0; i < p.scales.size(); ++i) p.scales.data()[i] *= 0.1f;
  expect_same(p, 128);
}

TEST_F(CudaGptqSweep, GivesTheBitsOfTheCpuForATable) {
  for (const int levels : {2, 3, 16, 200, 256}) {
    Problem p = random_problem(21, 77);
    p.max_code = levels - 1;
    for (int i = 0; i < levels; ++i)
      p.table.push_back(std::sinh(0.02f * static_cast<float>(i - levels / 2)));
    expect_same(p, 77);
  }
}

// Weights exactly in the middle between two levels.
TEST_F(CudaGptqSweep, TakesTheUpperOfTwoLevelsAsTheCpuDoes) {
  Problem p = exact_problem(16, 20);
  p.max_code = 3;
  p.table = {0, 2, 3, 8};
  p.groups = test::groups_of(20, 20);
  for (Index i = 0; i < p.weight.size(); ++i)
    p.weight.data()[i] = -64.0f + static_cast<float>(i % 20) / 2.0f;
  expect_same(p, 20);
}

TEST_F(CudaGptqSweep, GivesTheBitsOfTheCpuAcrossBlocksWhereSumsAreExact) {
  for (const Index block_size : {1, 7, 32, 64, 128, 200, 299, 1000}) {
    expect_same(exact_problem(11, 299), block_size);
  }
}

// A difference of some u in a weight moves a code only where it lies that close to the middle of
// two: the losses differ by far less than a thousandth.
TEST_F(CudaGptqSweep, GivesTheLossOfTheCpuAcrossBlocks) {
  const Problem p = random_problem(45, 333);
  for (const Index block_size : {48, 128, 256}) {
    const Swept expected = sweep(p, block_size, cpu_), swept = sweep(p, block_size, gpu_);
    EXPECT_NEAR(swept.loss, expected.loss, 1e-3 * expected.loss);
    Index moved = 0;
    for (Index i = 0; i < swept.codes.size(); ++i)
      moved += swept.codes.data()[i] != expected.codes.data()[i];
    EXPECT_LE(moved, swept.codes.size() / 1000);
  }
}

TEST_F(CudaGptqSweep, WorksOnViewsWithAStride) {
  const Problem p = random_problem(10, 60);
  const Swept expected = sweep(p, 32, gpu_);
  Matrix<float> wide(10, 70);
  Matrix<std::uint8_t> codes(10, 66);
  for (Index n = 0; n < 10; ++n) std::copy_n(p.weight.row(n), 60, wide.row(n) + 4);
  gptq_sweep({.weight_NK = wide.view().cols(4, 60),
              .inverse_factor_KK = p.factor,
              .grid = {p.scales, p.offsets, p.groups, p.max_code},
              .block_size = 32,
              .codes_NK = codes.view().cols(1, 60)},
             gpu_);
  for (Index n = 0; n < 10; ++n) {
    EXPECT_TRUE(std::equal(expected.codes.row(n), expected.codes.row(n) + 60, codes.row(n) + 1));
    EXPECT_TRUE(std::equal(expected.values.row(n), expected.values.row(n) + 60, wide.row(n) + 4));
    EXPECT_EQ(wide(n, 3), 0.0f);
    EXPECT_EQ(codes(n, 61), 0);
  }
}

}  // namespace
}  // namespace calque
