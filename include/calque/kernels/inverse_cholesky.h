#pragma once

#include <optional>

#include "calque/core/exec.h"
#include "calque/core/matrix.h"

namespace calque {

// The upper triangular U with H^-1 = U^T U, where H is symmetric positive definite and only the
// upper triangle of `hessian_KK` is read; the lower triangle of the result is zero. One
// factorisation: H = R R^T with R upper triangular (Cholesky in reversed order), U = R^-1.
// fp32 storage, double arithmetic up to K = 256; nullopt if H is not (numerically) positive
// definite or not finite. Cost 2/3 K^3. The result does not depend on the number of threads.
std::optional<Matrix<float>> inverse_cholesky(MatrixView<const float> hessian_KK, const Exec& exec);

// The same; U takes H's memory. On the CPU two matrices of doubles are beside it up to K = 256, a
// few hundred rows of fp32 above.
std::optional<Matrix<float>> inverse_cholesky(Matrix<float>&& hessian_KK, const Exec& exec);

}  // namespace calque
