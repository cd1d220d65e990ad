#include "calque/kernels/inverse_cholesky.h"

#include <gtest/gtest.h>

#include "kernels/cuda/both_devices.h"
#include "support/samples.h"

namespace calque {
namespace {

using CudaInverseCholesky = test::BothDevices;

// H = R R^T with R of small integers and ones on the diagonal: R, and U = R^-1, come out exact.
TEST_F(CudaInverseCholesky, IsExactWhereTheFactorIsOfIntegers) {
  const Index size = 37;
  Matrix<float> root(size, size), hessian(size, size);
  for (Index i = 0; i < size; ++i) {
    root(i, i) = 1.0f;
    if (i + 3 < size) root(i, i + 3) = static_cast<float>(i % 3) - 1.0f;
  }
  for (Index i = 0; i < size; ++i)
    for (Index j = 0; j < size; ++j)
      for (Index k = 0; k < size; ++k) hessian(i, j) += root(i, k) * root(j, k);
  const auto expected = inverse_cholesky(hessian, cpu_), factor = inverse_cholesky(hessian, gpu_);
  ASSERT_TRUE(factor.has_value());
  for (Index i = 0; i < size; ++i)
    for (Index j = 0; j < size; ++j)
      EXPECT_EQ((*factor)(i, j), (*expected)(i, j)) << i << ", " << j;
}

TEST_F(CudaInverseCholesky, ReadsAViewWithAStride) {
  const Matrix<float> hessian = test::damped_hessian(test::correlated_inputs(90, 41, 4, 251), 0.01);
  Matrix<float> wide(41, 50);
  for (Index i = 0; i < 41; ++i) std::copy_n(hessian.row(i), 41, wide.row(i) + 6);
  EXPECT_TRUE(test::same_bytes(*inverse_cholesky(hessian, gpu_),
                               *inverse_cholesky(wide.view().cols(6, 41), gpu_)));
}

}  // namespace
}  // namespace calque
