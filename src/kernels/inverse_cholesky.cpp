#include "calque/kernels/inverse_cholesky.h"

#include "kernels/checks.h"
#include "kernels/exec_backend.h"

namespace calque {

std::optional<Matrix<float>> inverse_cholesky(MatrixView<const float> hessian_KK,
                                              const Exec& exec) {
  expect_shape("inverse_cholesky", "hessian_KK", hessian_KK, hessian_KK.rows(), hessian_KK.rows());
  return exec.backend().kernels.inverse_cholesky(hessian_KK, exec.backend());
}

}  // namespace calque
