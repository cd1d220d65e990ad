#include "calque/kernels/round_to_grid.h"

#include <gtest/gtest.h>

#include <limits>

#include "kernels/cuda/both_devices.h"
#include "support/samples.h"

namespace calque {
namespace {

using CudaRoundToGrid = test::BothDevices;

// Rows and columns around the block size, groups in any order, out of a wider matrix; scales of
// both signs and zero; numbers that are none.
TEST_F(CudaRoundToGrid, GivesTheCodesOfTheCpu) {
  for (const auto& [rows, columns] : {std::pair<Index, Index>{1, 1}, {3, 255}, {2, 256}, {5, 777}})
    for (const int max_code : {1, 7, 255}) {
      Matrix<float> wide = test::normal_matrix(rows, columns + 5, 201, 3.0f);
      wide(0, 2) = std::numeric_limits<float>::quiet_NaN();
      wide(rows - 1, columns + 1) = -std::numeric_limits<float>::infinity();
      Matrix<float> scales = test::normal_matrix(rows, 3, 202, 0.1f);
      const Matrix<float> offsets = test::normal_matrix(rows, 3, 203);
      scales(0, 1) = 0.0f;
      std::vector<std::int32_t> groups;
      for (Index k = 0; k < columns; ++k) groups.push_back(static_cast<std::int32_t>(k * 7 % 3));
      Matrix<std::uint8_t> expected(rows, columns), codes(rows, columns);
      const MatrixView<const float> weight = wide.view().cols(2, columns);
      round_to_grid(weight, {scales, offsets, groups, max_code}, expected, cpu_);
      round_to_grid(weight, {scales, offsets, groups, max_code}, codes, gpu_);
      EXPECT_TRUE(test::same_bytes(codes, expected)) << rows << " x " << columns;
    }
}

}  // namespace
}  // namespace calque
