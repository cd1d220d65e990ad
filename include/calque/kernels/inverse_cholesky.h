#pragma once

#include <cstdint>
#include <optional>

#include "calque/core/cost.h"
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

// The CPU factorises in double up to this K, where it costs nothing; larger matrices in fp32 and in
// place, where double would take more than twice the time and four times the memory. The loss of a
// sweep is the same within 0.5 % either way, for damping from 5 % down to 1e-9 of the mean
// diagonal.
inline constexpr Index kLargestInDouble = 256;

constexpr Cost inverse_cholesky_cost(Index K) {
  const double flops =
      2.0 / 3 * static_cast<double>(K) * static_cast<double>(K) * static_cast<double>(K);
  return K <= kLargestInDouble ? Cost{.double_flops = flops} : Cost{.flops = flops};
}

// The CPU holds this beside a matrix that U replaces: two matrices of doubles; larger ones
// are factorised in place, with some rows for each thread that do not grow with K^2.
constexpr std::uint64_t inverse_cholesky_scratch_bytes(Index K) {
  return K <= kLargestInDouble ? 2 * sizeof(double) * static_cast<std::uint64_t>(K * K) : 0;
}

}  // namespace calque
