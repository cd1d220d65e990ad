#include "calque/kernels/inverse_cholesky.h"

#include <utility>

#include "kernels/checks.h"
#include "kernels/exec_backend.h"

namespace calque {
namespace {

void check(MatrixView<const float> hessian_KK) {
  expect_shape("inverse_cholesky", "hessian_KK", hessian_KK, hessian_KK.rows(), hessian_KK.rows());
}

}  // namespace

std::optional<Matrix<float>> inverse_cholesky(MatrixView<const float> hessian_KK,
                                              const Exec& exec) {
  check(hessian_KK);
  return exec.backend().kernels.inverse_cholesky(hessian_KK, exec.backend());
}

std::optional<Matrix<float>> inverse_cholesky(Matrix<float>&& hessian_KK, const Exec& exec) {
  const Exec::Backend& backend = exec.backend();
  Matrix<float> matrix_KK = std::move(hessian_KK);
  if (backend.kernels.inverse_cholesky_in_place == nullptr)
    return inverse_cholesky(matrix_KK.view(), exec);
  check(matrix_KK);
  if (!backend.kernels.inverse_cholesky_in_place(matrix_KK, backend)) return std::nullopt;
  return matrix_KK;
}

}  // namespace calque
